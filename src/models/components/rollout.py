"""Autoregressive forecasts: a network applied to its own outputs."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from src.checks import check_integer
from src.models.components.gcnn.caching import kernels_built_once


def roll_out(
    step: Callable[[Tensor], Tensor], known: Tensor, horizon: int, truth: Tensor | None = None
) -> Tensor:
    r"""Apply a network once per frame to forecast, to the last n frames seen or made so far.

    .. math:: \hat v_t = f(\hat v_{t-n}, \dots, \hat v_{t-1}), \quad
              \hat v_t = v_t \text{ for } t < n

    Args:
        step: f, maps [B, C n, H, W], channels ordered (time, component), to [B, C, H, W].
        known: the first n frames, [B, n, C, H, W].
        horizon: number of frames to forecast, at least one.
        truth: [B, horizon, C, H, W]; where given, f gets these frames in place of its own
            (teacher forcing).

    Returns: [B, horizon, C, H, W].
    """
    check_integer("horizon", horizon)
    num_inputs = known.shape[1]
    frames = list(known.unbind(1))
    forecasts = []
    for time in range(horizon):
        forecasts.append(step(torch.cat(frames[-num_inputs:], 1)))
        frames.append(forecasts[-1] if truth is None else truth[:, time])
    return torch.stack(forecasts, 1)


class Rollout(nn.Module):
    """`roll_out` of a network as a module: [B, n, C, H, W] -> [B, horizon, C, H, W]."""

    def __init__(self, net: nn.Module, horizon: int) -> None:
        super().__init__()
        check_integer("horizon", horizon)
        self.net = net
        self.horizon = horizon

    def forward(self, known: Tensor) -> Tensor:
        with kernels_built_once(self.net):
            return roll_out(self.net, known, self.horizon)
