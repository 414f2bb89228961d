"""Networks that forecast velocity fields: plain, on a group, and with relaxed symmetry."""

from typing import Any

from torch import nn

from src.checks import check_integer
from src.models.components.forecaster import Forecaster, GroupForecaster, Place
from src.models.components.gcnn.convolution.relaxed_rotation import RelaxedGroupConv
from src.models.components.gcnn.convolution.rotation import GroupConv
from src.models.components.gcnn.groups import Group
from src.models.components.gcnn.kernels import check_kernel_size
from src.models.components.gcnn.lifting.relaxed_rotation import RelaxedLiftingConv
from src.models.components.gcnn.lifting.rotation import LiftingConv
from src.models.components.gcnn.readout.relaxed_rotation import RelaxedVectorReadout
from src.models.components.gcnn.readout.rotation import VectorReadout
from src.models.components.translation import RelaxedTranslationConv


class CNNForecaster(Forecaster):
    """Ordinary convolutions: no symmetry but translation, away from the walls.

    Args:
        kernel_size: k, odd.

    The others are `Forecaster`'s.

    Shapes:
        as `Forecaster`; blocks [B, C, H, W].

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, *, kernel_size: int = 3, norm: str = "none", **skeleton: Any) -> None:
        check_kernel_size(kernel_size)

        def make_conv(in_channels: int, out_channels: int, place: Place) -> nn.Module:
            bias = norm == "none" or place == "last"
            channels = _numbers(in_channels, out_channels, place)
            return nn.Conv2d(*channels, kernel_size, padding="same", bias=bias)

        super().__init__(make_conv, nn.BatchNorm2d, norm=norm, **skeleton)


class RelaxedTranslationForecaster(Forecaster):
    """`CNNForecaster` of relaxed layers: starts equivariant to translation away from the walls.

    Args:
        grid_size: (H, W), height and width of the frames; each layer has maps of this size.
        kernel_size: k, odd.
        num_filter_banks: L, filter banks of each layer, with one map each.

    The others are `Forecaster`'s.

    Shapes:
        as `Forecaster`; blocks [B, C, H, W].

    Raises:
        ValueError: an argument out of range; at run time frames of another size.
    """

    def __init__(
        self,
        *,
        grid_size: tuple[int, int],
        kernel_size: int = 3,
        num_filter_banks: int = 2,
        norm: str = "none",
        **skeleton: Any,
    ) -> None:
        check_integer("num_filter_banks", num_filter_banks)
        options = {"grid_size": grid_size, "num_filter_banks": num_filter_banks}

        def make_conv(in_channels: int, out_channels: int, place: Place) -> nn.Module:
            bias = norm == "none" or place == "last"
            channels = _numbers(in_channels, out_channels, place)
            return RelaxedTranslationConv(*channels, kernel_size, bias=bias, **options)

        super().__init__(make_conv, nn.BatchNorm2d, norm=norm, **skeleton)


class GCNNForecaster(GroupForecaster):
    """Strictly equivariant: vectors are lifted to the group, convolved there and read out.

    Args:
        group: a group or its name.
        kernel_size: k, odd.
        interpolation: how kernels are turned, see `kernels.kernel_transform`.

    The others are `Forecaster`'s.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        *,
        group: str | Group = "c4",
        kernel_size: int = 3,
        interpolation: str = "bilinear",
        norm: str = "none",
        **skeleton: Any,
    ) -> None:
        def make_conv(in_channels: int, out_channels: int, place: Place) -> nn.Module:
            sizes = (in_channels, out_channels, kernel_size, group)
            if place == "last":
                return VectorReadout(*sizes, interpolation=interpolation)
            options = {"bias": norm == "none", "interpolation": interpolation}
            if place == "first":
                return LiftingConv(*sizes, in_type="vector", **options)
            return GroupConv(*sizes, **options)

        super().__init__(make_conv, group=group, norm=norm, **skeleton)


class RelaxedGCNNForecaster(GroupForecaster):
    """`GCNNForecaster` of relaxed layers: starts exactly equivariant, and may leave it.

    Args:
        group: a group or its name.
        kernel_size: k, odd.
        num_filter_banks: L, filter banks of each layer.
        group_biases: whether each element of the group has biases of its own.
        interpolation: how kernels are turned, see `kernels.kernel_transform`.

    The others are `Forecaster`'s.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        *,
        group: str | Group = "c4",
        kernel_size: int = 3,
        num_filter_banks: int = 2,
        group_biases: bool = False,
        interpolation: str = "bilinear",
        norm: str = "none",
        **skeleton: Any,
    ) -> None:
        check_integer("num_filter_banks", num_filter_banks)
        shared = {"interpolation": interpolation, "num_filter_banks": num_filter_banks}
        biases = {"bias": norm == "none", "group_biases": group_biases}

        def make_conv(in_channels: int, out_channels: int, place: Place) -> nn.Module:
            sizes = (in_channels, out_channels, kernel_size, group)
            if place == "last":
                return RelaxedVectorReadout(*sizes, **shared)
            if place == "first":
                return RelaxedLiftingConv(*sizes, in_type="vector", **biases, **shared)
            return RelaxedGroupConv(*sizes, **biases, **shared)

        super().__init__(make_conv, group=group, norm=norm, **skeleton)


def _numbers(in_channels: int, out_channels: int, place: Place) -> tuple[int, int]:
    """Channels of a plain convolution, where vectors are two numbers each."""
    return in_channels * (1 + (place == "first")), out_channels * (1 + (place == "last"))
