"""Networks on the steerable kernels of e2cnn that forecast velocity fields."""

from typing import Any

from torch import nn

from src.models.components.e2cnn import E2Conv, RelaxedSteerableConv
from src.models.components.forecasters import LAST, GroupForecaster
from src.models.components.gcnn.groups import Group


class E2CNNForecaster(GroupForecaster):
    """`GCNNForecaster` with the steerable kernels of e2cnn in place of turned ones."""

    layer = E2Conv

    def __init__(
        self,
        *,
        group: str | Group = "c4",
        kernel_size: int = 3,
        norm: str = "none",
        **skeleton: Any,
    ) -> None:
        def make_conv(in_channels: int, out_channels: int, place: int) -> nn.Module:
            return self.layer(
                in_channels,
                out_channels,
                kernel_size,
                group,
                in_type=self.field_type if place == 0 else "regular",
                out_type=self.field_type if place == LAST else "regular",
                bias=norm == "none" and place != LAST,
            )

        super().__init__(make_conv, group=group, norm=norm, **skeleton)


class RelaxedSteerableForecaster(E2CNNForecaster):
    """`E2CNNForecaster` of relaxed layers: starts exactly equivariant, and may leave it."""

    layer = RelaxedSteerableConv
