"""Networks on the steerable kernels of e2cnn that forecast velocity fields."""

from typing import Any

from torch import nn

from src.models.components.e2cnn import E2Conv
from src.models.components.forecaster import GroupForecaster, Place
from src.models.components.gcnn.groups import Group
from src.models.components.steerable import RelaxedSteerableConv


class SteerableForecaster(GroupForecaster):
    """`GroupForecaster` of layers with the signature of `E2Conv`.

    Args:
        layer: `E2Conv` or a class that is called the same way.
        group: a group or its name.
        kernel_size: k, odd.

    The others are `Forecaster`'s.
    """

    def __init__(
        self,
        layer: type[nn.Module],
        *,
        group: str | Group = "c4",
        kernel_size: int = 3,
        norm: str = "none",
        **skeleton: Any,
    ) -> None:
        def make_conv(in_channels: int, out_channels: int, place: Place) -> nn.Module:
            return layer(
                in_channels,
                out_channels,
                kernel_size,
                group,
                in_type="vector" if place == "first" else "regular",
                out_type="vector" if place == "last" else "regular",
                bias=norm == "none" and place != "last",
            )

        super().__init__(make_conv, group=group, norm=norm, **skeleton)


class E2CNNForecaster(SteerableForecaster):
    """Strictly equivariant: `GCNNForecaster` with steerable kernels in place of turned ones.

    Args:
        group: a group or its name.
        kernel_size: k, odd.

    The others are `Forecaster`'s.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(E2Conv, **options)


class RelaxedSteerableForecaster(SteerableForecaster):
    """`E2CNNForecaster` of relaxed layers: starts exactly equivariant, and may leave it.

    Each basis kernel has a weight of its own at each position of the k x k grid, see
    `RelaxedSteerableConv`.

    Args:
        group: a group or its name.
        kernel_size: k, odd.

    The others are `Forecaster`'s.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(RelaxedSteerableConv, **options)
