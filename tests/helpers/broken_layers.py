"""Layers that look equivariant and are not, for the test of the equivariance helper.

They are broken for groups that map the grid to itself, such as C4.
"""

import torch
from torch import Tensor

from src.models.components.gcnn import (
    GroupConv,
    LiftingConv,
    RelaxedGroupConv,
    VectorReadout,
    kernel_transform,
)


class NoCyclicShift(GroupConv):
    """Turns every kernel but leaves the group axis in place."""

    def _exact_permutation(self) -> Tensor:
        identity = torch.eye(self.group.order, dtype=torch.float64)
        turns = kernel_transform(self.group, self.kernel_size, self.interpolation)
        return torch.stack([torch.kron(identity, t) for t in turns]).argmax(-1)


class WrongSense(LiftingConv):
    """Turns kernels clockwise."""

    def _exact_permutation(self) -> Tensor:
        return super()._exact_permutation()[self.group.inverse]


class OppositeVectors(VectorReadout):
    """Turns pixels one way and vectors the other."""

    def _exact_transform(self) -> Tensor:
        opposite = self.group.matrices[self.group.inverse]
        turns = kernel_transform(self.group, self.kernel_size, self.interpolation)
        return torch.stack([torch.kron(rho, t) for rho, t in zip(opposite, turns)])


class RestingVectors(VectorReadout):
    """Turns pixels, but not the vectors in them."""

    def _exact_transform(self) -> Tensor:
        turns = kernel_transform(self.group, self.kernel_size, self.interpolation)
        return torch.stack([torch.block_diag(t, t) for t in turns])


def strongly_relaxed(*args, **options) -> RelaxedGroupConv:
    """A relaxed layer whose weights have moved far apart."""
    layer = RelaxedGroupConv(*args, num_filter_banks=2, **options)
    torch.nn.init.normal_(layer.relaxed_weights)
    return layer
