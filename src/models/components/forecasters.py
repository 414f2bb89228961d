"""Networks that forecast velocity fields: plain, on a group, relaxed; the skeleton they share."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from src.checks import check_integer, check_shape
from src.models.components.activations import make_activation
from src.models.components.first_guess import FirstGuess
from src.models.components.gcnn import Group, GroupBatchNorm, ImageBatchNorm, make_group
from src.models.components.gcnn.caching import channels_last
from src.models.components.gcnn.initial import ImageConv
from src.models.components.gcnn.kernels import check_kernel_size
from src.models.components.gcnn.norm import choose_norm
from src.models.components.gcnn.restriction import groups_of_layers, restricted
from src.models.components.gcnn.sequential import GroupSequential
from src.models.components.rotation import Layers, RelaxedNetwork
from src.models.components.translation import RelaxedTranslationConv
from src.models.components.widths import conv_counter, count_parameters, resolve_widths

LAST = -1  # place of the readout
MakeConv = Callable[[int, int, int], nn.Module]


class Forecaster(nn.Module):
    r"""Blocks of convolution, norm and activation, then a convolution to one velocity field.

    .. math:: \hat v_{T+1} = g + \mathrm{readout}(\mathrm{blocks}(v_1, \dots, v_T))

    with g that of `FirstGuess`; where there is one a new readout has a tenth of the usual weights,
    so that the first forecasts are near g. Nothing follows the readout: it can give any vectors.

    Args:
        make_conv: (in_channels, out_channels, place) -> the convolution, which pads with zeros, at
            that place: 0, 1, ..., and `LAST` for the readout. ``in_channels`` of the first and
            ``out_channels`` of the last count frames. The number of its parameters must be as
            for `conv_counter`.
        batch_norm: channels -> norm, for ``norm="batch"``.
        num_inputs: T, frames in the input.
        hidden_channels: channels of all layers but the last, one number or one per layer.
        num_parameters: scale ``hidden_channels`` to this many parameters, within 3 %.
        num_layers: number of convolutions with the readout, at least three.
        density: whether frames hold the density of the smoke too, which is then forecast as well.
        norm: ``"batch"``, ``"group"`` (`SampleNorm`) or ``"none"``, before each activation.
        activation: see `make_activation`.
        residual, slope, learn_slope: see `FirstGuess`.

    Attributes:
        field_type: of a frame, ``"vector"`` or with density ``"vector+scalar"``.
        blocks: one block per convolution but the last; measures look at their outputs.
        readout: the last convolution.

    Shapes:
        input [B, n T, H, W], channels ordered (time, component); output [B, n, H, W]; n = 2, or 3
        with density, which comes last. Component 0 points along columns, component 1 along rows.

    Reference: R. Wang, R. Walters, R. Yu, Approximately Equivariant Networks for Imperfectly
    Symmetric Dynamics, ICML 2022; five layers as there.
    """

    def __init__(
        self,
        make_conv: MakeConv,
        batch_norm: Callable[[int], nn.Module],
        *,
        num_inputs: int = 10,
        hidden_channels: int | Sequence[int] = 10,
        num_parameters: int | None = None,
        num_layers: int = 5,
        density: bool = False,
        norm: str = "none",
        activation: str = "silu",
        residual: str = "last",
        slope: float = 1.0,
        learn_slope: bool = False,
    ) -> None:
        super().__init__()
        check_integer("num_inputs", num_inputs)
        check_integer("num_layers", num_layers, minimum=3)
        self.field_type, self.frame_channels = ("vector+scalar", 3) if density else ("vector", 2)
        self.guess = FirstGuess(residual, num_inputs, slope, learn_slope)
        make_norm = choose_norm(norm, batch_norm)
        places = [*range(num_layers - 1), LAST]
        counters = [conv_counter(partial(make_conv, place=place)) for place in places]
        per_channel, constant = count_parameters(make_norm(1)), count_parameters(self.guess)

        def count(widths: list[int]) -> int:
            pairs = [*self.channel_pairs(num_inputs, widths), (widths[-1], 1)]
            kernels = sum(counter(i, o) for counter, (i, o) in zip(counters, pairs))
            return kernels + per_channel * sum(o for _, o in pairs[:-1]) + constant

        widths = resolve_widths(hidden_channels, num_layers - 1, num_parameters, count)
        blocks = [
            nn.Sequential(make_conv(i, o, place), make_norm(o), make_activation(activation))
            for place, (i, o) in zip(places, self.channel_pairs(num_inputs, widths))
        ]
        self.num_inputs = num_inputs
        self.blocks = self.joined(blocks)
        self.readout = make_conv(widths[-1], 1, LAST)
        if self.guess.residual != "none":
            linear = ("weight", "free_kernel", "bias")  # what the readout is linear in
            with torch.no_grad():
                for name, parameter in self.readout.named_parameters():
                    if name.rpartition(".")[2] in linear:
                        parameter.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        meaning = f"{self.num_inputs} frames of {self.frame_channels} components"
        fix = "Change `num_inputs` or `density` of the network, or the data."
        check_shape(self, x, ("B", self.frame_channels * self.num_inputs, "H", "W"), meaning, fix)
        return self.guess(x) + self.readout(self.features(channels_last(x)))

    def channel_pairs(self, num_inputs: int, widths: list[int]) -> list[tuple[int, int]]:
        """Channels in and out of each block."""
        return list(pairwise([num_inputs, *widths]))

    def joined(self, blocks: list[nn.Module]) -> nn.Module:
        """The blocks as one module, whose children they are."""
        return GroupSequential(*blocks)

    def features(self, x: Tensor) -> Tensor:
        """What the readout is given."""
        return self.blocks(x)


class PlainForecaster(Forecaster):
    """`Forecaster` without a group, for which a frame is channels; blocks [B, C, H, W].

    Args:
        make_layer: makes a layer, with the arguments of `nn.Conv2d`.
        kernel_size: k, odd.
        skeleton: the other arguments of `Forecaster`.
    """

    def __init__(
        self,
        make_layer: Callable[..., nn.Module],
        *,
        kernel_size: int = 3,
        norm: str = "none",
        **skeleton: Any,
    ) -> None:
        check_kernel_size(kernel_size)

        def make_conv(in_channels: int, out_channels: int, place: int) -> nn.Module:
            inputs = in_channels * (self.frame_channels if place == 0 else 1)
            outputs = out_channels * (self.frame_channels if place == LAST else 1)
            bias = norm == "none" or place == LAST
            return make_layer(inputs, outputs, kernel_size, padding="same", bias=bias)

        super().__init__(make_conv, ImageBatchNorm, norm=norm, **skeleton)


class CNNForecaster(PlainForecaster):
    """Ordinary convolutions: no symmetry but translation, away from the walls."""

    def __init__(self, **options: Any) -> None:
        super().__init__(ImageConv, **options)


class RelaxedTranslationForecaster(PlainForecaster):
    """`CNNForecaster` of relaxed layers: starts equivariant to translation away from the walls.

    Args:
        grid_size: (H, W), height and width of the frames.
        num_filter_banks: L, filter banks of each layer.
    """

    def __init__(
        self, *, grid_size: tuple[int, int], num_filter_banks: int = 2, **options: Any
    ) -> None:
        maps = {"grid_size": grid_size, "num_filter_banks": num_filter_banks}
        super().__init__(partial(RelaxedTranslationConv, **maps), **options)


class GroupForecaster(Forecaster):
    """`Forecaster` whose blocks, [B, C, |G|, H, W], turn with the frames and their vectors.

    Args:
        group: a group or its name.
        make_conv, skeleton: the arguments of `Forecaster`.
    """

    def __init__(self, make_conv: MakeConv, *, group: str | Group, **skeleton: Any) -> None:
        super().__init__(make_conv, GroupBatchNorm, **skeleton)
        self.group = make_group(group)


class RotationForecaster(GroupForecaster):
    """`GroupForecaster` whose kernels are turned.

    Args:
        layers: what makes the convolutions.
        group: a group or its name, or one for each layer, see `groups_of_layers`; the network's
            own is the last, which all layers contain.
        kernel_size: k, odd.
        interpolation: how kernels are turned, see `kernels.kernel_transform`.
        skeleton: the other arguments of `GroupForecaster`.
    """

    def __init__(
        self,
        layers: Layers,
        *,
        group: str | Group | Sequence[str | Group] = "c4",
        kernel_size: int = 3,
        interpolation: str = "bilinear",
        norm: str = "none",
        num_layers: int = 5,
        **skeleton: Any,
    ) -> None:
        groups = groups_of_layers(group, num_layers)

        def make_conv(in_channels: int, out_channels: int, place: int) -> nn.Module:
            sizes = (in_channels, out_channels, kernel_size)
            options = {"interpolation": interpolation}
            if place == LAST:
                options["out_type"] = self.field_type
                return restricted(layers.readout, *sizes, groups[-2:], **options)
            options["bias"] = norm == "none"
            if place == 0:
                return layers.lifting(*sizes, groups[0], in_type=self.field_type, **options)
            return restricted(layers.convolution, *sizes, groups[place - 1 : place + 1], **options)

        skeleton |= {"num_layers": num_layers, "norm": norm}
        super().__init__(make_conv, group=groups[-1], **skeleton)


class GCNNForecaster(RotationForecaster):
    """Strictly equivariant network."""

    def __init__(self, **options: Any) -> None:
        super().__init__(Layers(), **options)


class RelaxedGCNNForecaster(RelaxedNetwork, RotationForecaster):
    """`GCNNForecaster` of relaxed layers; arguments say what is free: see `RelaxedNetwork`."""
