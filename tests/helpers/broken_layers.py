"""Layers that look equivariant and are not, for the test of the equivariance helper."""

import torch
from torch import Tensor

from src.models.components.gcnn import GroupConv, LiftingConv, RelaxedGroupConv


class NoCyclicShift(GroupConv):
    """Turns every kernel but leaves the group axis in place."""

    def _shift(self, turned: Tensor) -> Tensor:
        order = self.group.order
        turned = turned.reshape(self.out_channels, self.in_channels, order, order, -1)
        return self._as_conv_weight(turned.transpose(1, 2))


class WrongSense(LiftingConv):
    """Turns kernels clockwise."""

    def _exact_transform(self) -> Tensor:
        return super()._exact_transform()[self.group.inverse]


def strongly_relaxed(*args, **options) -> RelaxedGroupConv:
    """A relaxed layer whose weights have moved far apart."""
    layer = RelaxedGroupConv(*args, num_filter_banks=2, **options)
    torch.nn.init.normal_(layer.relaxed_weights)
    return layer
