"""The same network on steerable kernels, expanded by the e2cnn library."""

import copy
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch.nn.functional as F
from e2cnn import gspaces
from e2cnn import nn as enn
from e2cnn.kernels import irreps_basis
from torch import Tensor, nn

from .gcnn.groups import Group, make_group
from .gcnn.kernels import check_kernel_size
from .gcnn.networks import GroupClassifier


class E2Conv(nn.Module):
    """Convolution between e2cnn's scalar or regular fields, with this project's tensors.

    e2cnn expands the kernel from a basis of steerable kernels. Its elements come in the order of
    `make_group` and its rotations turn the same way (mirror images about the vertical axis), so
    tensors need no reordering. The kernel is expanded anew in every forward pass: e2cnn's own
    `R2Conv` keeps it in evaluation mode, where a changed parameter then has no effect.

    Args:
        in_channels: I, fields of the input.
        out_channels: O, regular fields of the output.
        kernel_size: k, odd.
        group: a group or its name.
        in_type: ``"scalar"`` or ``"regular"``.

    Shapes:
        input [B, I, H, W] (scalar) or [B, I, |G|, H, W] (regular); output [B, O, |G|, H, W].

    Reference: M. Weiler, G. Cesa, General E(2)-Equivariant Steerable CNNs, NeurIPS 2019.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        group: str | Group,
        in_type: str = "regular",
    ) -> None:
        super().__init__()
        check_kernel_size(kernel_size)
        self.group = make_group(group)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        space = _gspace(self.group)
        field = space.trivial_repr if in_type == "scalar" else space.regular_repr
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # e2cnn indexes with uint8 masks
            conv = enn.R2Conv(
                enn.FieldType(space, in_channels * [field]),
                enn.FieldType(space, out_channels * [space.regular_repr]),
                kernel_size,
                bias=False,
            )
        # e2cnn shares the parts of expansions between all its layers, their dtype and mode too
        self.basis_expansion = copy.deepcopy(conv.basisexpansion)
        self.weight = conv.weights

    def expanded_kernel(self) -> Tensor:
        """The ordinary convolution weight [O |G|, I (or I |G|), k, k]."""
        kernel = self.basis_expansion(self.weight)
        return kernel.reshape(*kernel.shape[:2], self.kernel_size, self.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1, -3)
        y = F.conv2d(x, self.expanded_kernel(), padding=self.kernel_size // 2)
        return y.unflatten(1, (self.out_channels, self.group.order))

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"group={self.group.name}"
        )


class E2CNN(GroupClassifier):
    """`GCNN` with the steerable kernels of e2cnn in place of turned ones.

    Args:
        group: a group or its name.
        kernel_size: k, odd.

    The others are `GroupClassifier`'s and `Classifier`'s.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, *, group: str | Group = "c4", kernel_size: int = 3, **skeleton: Any) -> None:
        def make_conv(in_channels: int, out_channels: int, is_first: bool) -> nn.Module:
            in_type = "scalar" if is_first else "regular"
            return E2Conv(in_channels, out_channels, kernel_size, group, in_type)

        super().__init__(make_conv, group=group, **skeleton)


def _gspace(group: Group) -> gspaces.GSpace:
    """e2cnn's name for the group's action on the plane."""
    reflections, num_rotations = group.name[0] == "d", int(group.name[1:])
    if num_rotations == 1:
        return gspaces.Flip2dOnR2(math.pi / 2) if reflections else gspaces.TrivialOnR2()
    if reflections:
        return gspaces.FlipRot2dOnR2(num_rotations, axis=math.pi / 2)
    return gspaces.Rot2dOnR2(num_rotations)


def _run_on_numpy_2() -> None:
    """Replace what e2cnn 0.2.3 uses and NumPy 2 removed, for groups with reflections."""

    def hash_basis(basis: irreps_basis.IrrepBasis) -> int:
        return hash((basis.in_irrep, basis.out_irrep, basis.mu.tobytes()))

    def with_arrays(function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapped(theta, *args, out=None, **kwargs):
            args = [np.atleast_1d(a) for a in args]
            kwargs = {name: np.atleast_1d(value) for name, value in kwargs.items()}
            return function(theta, *args, out=out, **kwargs)

        return wrapped

    irreps_basis.psichi = with_arrays(irreps_basis.psichi)
    irreps_basis.R2FlipsSolution.__hash__ = hash_basis
    irreps_basis.R2FlipsDiscreteRotationsSolution.__hash__ = hash_basis


_run_on_numpy_2()
