"""What a forecast is where the network adds nothing to it."""

import logging
import math

import torch
from torch import Tensor, nn

from src.checks import check_choice, check_number, wrong

RESIDUALS = ("none", "last", "linear")

log = logging.getLogger(__name__)


class FirstGuess(nn.Module):
    r"""A forecast from the last frames alone, which turns as they do.

    .. math:: g = v_T + c\,(v_T - v_{T-1})

    with ``residual="linear"``; v_T with ``"last"``; 0 with ``"none"``.

    Args:
        residual: one of these names. Configs stored earlier have true for ``"last"`` and false for
            ``"none"``, which are taken too, and said.
        num_inputs: T, frames in the input.
        slope: c: 1 goes on as before, 0 stays at the last frame.
        learn_slope: whether c is trained; it starts at ``slope``.

    Shapes:
        input [B, n T, H, W], channels ordered (time, component); output [B, n, H, W].
    """

    def __init__(
        self, residual: str, num_inputs: int, slope: float = 1.0, learn_slope: bool = False
    ) -> None:
        super().__init__()
        if isinstance(residual, bool):
            name = RESIDUALS[residual]
            log.warning("`residual=%s` is read as %r: it is a name now.", residual, name)
            residual = name
        check_choice("residual", residual, RESIDUALS)
        check_number("slope", slope, -math.inf, fix="1.0, a straight line")
        if residual == "linear" and num_inputs < 2:
            rule = "one of none, last with one input frame, which has no slope"
            fix = "data.num_inputs=2, or model.net.residual=last"
            raise ValueError(wrong("residual", rule, residual, fix))
        self.residual = residual
        self.num_inputs = num_inputs
        learned = learn_slope and residual == "linear"
        self.slope = nn.Parameter(torch.tensor(float(slope))) if learned else slope

    def forward(self, x: Tensor) -> Tensor:
        frames = x.chunk(self.num_inputs, 1)
        last = frames[-1]
        if self.residual == "linear":
            return last + self.slope * (last - frames[-2])
        return last if self.residual == "last" else torch.zeros_like(last)

    def extra_repr(self) -> str:
        return self.residual
