"""Layers that look equivariant and are not, for the test of the equivariance helper."""

import torch
from torch import Tensor

from src.models.components.gcnn import (
    GroupConv,
    LiftingConv,
    RelaxedGroupConv,
    kernel_transform,
)


class NoCyclicShift(GroupConv):
    """Turns every kernel but leaves the group axis in place."""

    def _exact_transform(self) -> Tensor:
        identity = torch.eye(self.group.order, dtype=torch.float64)
        turns = kernel_transform(self.group, self.kernel_size, self.interpolation)
        return torch.stack([torch.kron(identity, t) for t in turns])


class WrongSense(LiftingConv):
    """Turns kernels clockwise."""

    def _exact_transform(self) -> Tensor:
        return super()._exact_transform()[self.group.inverse]


def strongly_relaxed(*args, **options) -> RelaxedGroupConv:
    """A relaxed layer whose weights have moved far apart."""
    layer = RelaxedGroupConv(*args, num_filter_banks=2, **options)
    torch.nn.init.normal_(layer.relaxed_weights)
    return layer
