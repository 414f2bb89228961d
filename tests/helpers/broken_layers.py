"""Layers that look equivariant and are not, for groups that map the grid to itself, such as C4."""

import torch
from torch import Tensor

from src.models.components import gcnn


def kron_with_turns(layer, matrices: Tensor) -> Tensor:
    """Matrix kron T_g for every element."""
    turns = gcnn.kernel_transform(layer.group, layer.kernel_size, layer.interpolation)
    return torch.stack([torch.kron(matrix, turn) for matrix, turn in zip(matrices, turns)])


class NoCyclicShift(gcnn.GroupConv):
    """Turns every kernel but leaves the group axis in place."""

    def _exact_permutation(self) -> Tensor:
        identity = torch.eye(self.group.order, dtype=torch.float64)
        return kron_with_turns(self, identity.expand(self.group.order, -1, -1)).argmax(-1)


class WrongSense(gcnn.LiftingConv):
    """Turns kernels clockwise."""

    def _exact_permutation(self) -> Tensor:
        return super()._exact_permutation()[self.group.inverse]


class OppositeVectors(gcnn.VectorReadout):
    """Turns pixels one way and vectors the other."""

    def _exact_transform(self) -> Tensor:
        return kron_with_turns(self, self.group.matrices[self.group.inverse])


class RestingVectors(gcnn.VectorReadout):
    """Turns pixels, but not the vectors in them."""

    def _exact_transform(self) -> Tensor:
        return kron_with_turns(self, torch.eye(2).double().expand(self.group.order, -1, -1))


def strongly_relaxed(*args, **options) -> gcnn.RelaxedGroupConv:
    """A relaxed layer whose weights have moved far apart."""
    layer = gcnn.RelaxedGroupConv(*args, num_filter_banks=2, **options)
    torch.nn.init.normal_(layer.relaxed_weights)
    return layer


BROKEN = [NoCyclicShift, WrongSense, OppositeVectors, RestingVectors, strongly_relaxed]
