"""The skeleton that all networks share which forecast velocity fields."""

from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import Any, Literal

import torch
from torch import Tensor, nn

from src.checks import check_choice, check_integer
from src.models.components.gcnn.groups import Group, make_group
from src.models.components.gcnn.norm import GroupBatchNorm
from src.models.components.gcnn.sequential import GroupSequential
from src.models.components.widths import resolve_widths

Place = Literal["first", "hidden", "last"]
MakeConv = Callable[[int, int, Place], nn.Module]

NORMS = ("none", "batch")
START = 0.1  # factor on a new readout whose output is added to the last frame


class Forecaster(nn.Module):
    r"""Blocks of convolution, norm and ELU, then a convolution to one velocity field.

    .. math:: \hat v_{T+1} = v_T + \mathrm{readout}(\mathrm{blocks}(v_1, \dots, v_T))

    without v_T if ``residual`` is false. With it the weights of a new readout are a tenth of
    what they are otherwise, so that the first forecasts are near the last frame. Nothing
    follows the readout, so that it can give vectors of any length and direction. Height and
    width stay: all convolutions pad with zeros.

    Args:
        make_conv: (in_channels, out_channels, place) -> a convolution. ``in_channels`` of the
            ``"first"`` and ``out_channels`` of the ``"last"`` count vectors. The number of its
            parameters must be a i o + b i + c o + d for i input and o output channels.
        make_norm: channels -> norm, for ``norm="batch"``.
        num_inputs: T, frames in the input.
        hidden_channels: channels of all layers but the last, one number or one per layer.
        num_parameters: scale ``hidden_channels`` to this many parameters, within 3 %.
        num_layers: number of convolutions with the readout, at least three.
        norm: ``"none"``, or ``"batch"`` for a batch norm before each ELU.
        residual: whether to add the last frame of the input.

    Attributes:
        blocks: one block per convolution but the last; measures look at their outputs.
        readout: the last convolution.

    Shapes:
        input [B, 2 T, H, W], channels ordered (time, component); output [B, 2, H, W]. Component
        0 points along increasing column index, component 1 along increasing row index. The
        output has the input's unit.

    Raises:
        ValueError: an argument out of range; at run time an input of the wrong shape.

    Reference: R. Wang, R. Walters, R. Yu, Approximately Equivariant Networks for Imperfectly
    Symmetric Dynamics, ICML 2022; five layers as there.
    """

    def __init__(
        self,
        make_conv: MakeConv,
        make_norm: Callable[[int], nn.Module],
        *,
        num_inputs: int = 10,
        hidden_channels: int | Sequence[int] = 10,
        num_parameters: int | None = None,
        num_layers: int = 5,
        norm: str = "none",
        residual: bool = True,
    ) -> None:
        super().__init__()
        check_integer("num_inputs", num_inputs)
        check_integer("num_layers", num_layers, minimum=3)
        check_choice("norm", norm, NORMS)
        _check_length(hidden_channels, num_layers)
        make_norm = nn.Identity if norm == "none" else make_norm
        count = _parameter_counter(make_conv, make_norm, num_inputs)
        widths = resolve_widths(hidden_channels, num_layers - 1, num_parameters, count)
        places: list[Place] = ["first", *["hidden"] * (num_layers - 2)]
        blocks = [
            nn.Sequential(make_conv(i, o, place), make_norm(o), nn.ELU(inplace=True))
            for place, (i, o) in zip(places, pairwise([num_inputs, *widths]))
        ]
        self.num_inputs = num_inputs
        self.residual = residual
        self.blocks = GroupSequential(*blocks)
        self.readout = make_conv(widths[-1], 1, "last")
        if residual:
            _scale(self.readout, START)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 2 T, H, W] -> [B, 2, H, W]."""
        if x.dim() != 4 or x.shape[1] != 2 * self.num_inputs:
            raise ValueError(
                f"input of {type(self).__name__} must have the shape [B, {2 * self.num_inputs}, "
                f"H, W] ({self.num_inputs} frames of 2 components); got {list(x.shape)}. Change "
                "`num_inputs` of the network, or the data."
            )
        change = self.readout(self.blocks(x))
        return x[:, -2:] + change if self.residual else change


class GroupForecaster(Forecaster):
    """`Forecaster` whose hidden layers are feature maps on a group.

    The same for every element of the group: turning the frames and their vectors turns the
    forecast and its vectors.

    Args:
        make_conv: see `Forecaster`; the first lifts vectors, the last reads out vectors.
        group: a group or its name.

    The others are `Forecaster`'s.

    Shapes:
        as `Forecaster`; blocks [B, C, |G|, H, W].
    """

    def __init__(self, make_conv: MakeConv, *, group: str | Group, **skeleton: Any) -> None:
        group = make_group(group)
        super().__init__(make_conv, GroupBatchNorm, **skeleton)
        self.group = group


def _parameter_counter(
    make_conv: MakeConv, make_norm: Callable[[int], nn.Module], num_inputs: int
) -> Callable[[list[int]], int]:
    """Count parameters for given widths from layers of one and two channels."""
    count_first, count_hidden, count_last = (
        _conv_counter(make_conv, place) for place in ("first", "hidden", "last")
    )
    per_channel = _num_parameters(make_norm(1))

    def count(widths: list[int]) -> int:
        hidden = sum(count_hidden(i, o) for i, o in pairwise(widths))
        ends = count_first(num_inputs, widths[0]) + count_last(widths[-1], 1)
        return ends + hidden + per_channel * sum(widths)

    return count


def _conv_counter(make_conv: MakeConv, place: Place) -> Callable[[int, int], int]:
    """(i, o) -> number of parameters, a i o + b i + c o + d with the values at i, o = 1, 2."""
    at = {(i, o): _num_parameters(make_conv(i, o, place)) for i, o in product((1, 2), (1, 2))}
    per_input, per_output = at[2, 1] - at[1, 1], at[1, 2] - at[1, 1]
    per_pair = at[2, 2] - at[2, 1] - per_output

    def count(i: int, o: int) -> int:
        i, o = i - 1, o - 1
        return at[1, 1] + per_input * i + per_output * o + per_pair * i * o

    return count


def _num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@torch.no_grad()
def _scale(layer: nn.Module, factor: float) -> None:
    """Multiply what the output of a layer is linear in."""
    for name, parameter in layer.named_parameters():
        if name in ("weight", "bias"):
            parameter.mul_(factor)


def _check_length(hidden_channels: int | Sequence[int], num_layers: int) -> None:
    if not isinstance(hidden_channels, int) and len(hidden_channels) != num_layers - 1:
        raise ValueError(
            "`hidden_channels` must be one number, or one per layer but the last, which gives the "
            f"velocity; got {len(hidden_channels)} for {num_layers} layers. Give {num_layers - 1}, "
            "or change `num_layers`."
        )
