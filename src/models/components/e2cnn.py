"""The same network on steerable kernels, expanded from the bases of the e2cnn library."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.checks import check_integer
from src.models.components.classifiers import GroupClassifier
from src.models.components.e2cnn_bases import fibre_size, kernel_basis
from src.models.components.gcnn.caching import KernelCache
from src.models.components.gcnn.groups import Group, make_group


class E2Conv(nn.Module):
    r"""Convolution between scalar, vector or regular fields with e2cnn's steerable kernels.

    .. math:: W_{o,i} = \sum_b w_{o,i,b}\, B_b, \qquad
              B_b(g x) = \rho_{out}(g)\, B_b(x)\, \rho_{in}(g)^{-1}

    B are the kernels from one input field to one output field (`e2cnn_bases.kernel_basis`); the
    sum is one matrix product, equal to that of `e2cnn.nn.R2Conv`, whose initial distribution the
    coefficients have. Elements come in the order of `make_group`, and vectors turn as in
    `gcnn.actions`, so tensors need no reordering.

    Args:
        in_channels: I, fields of the input.
        out_channels: O, fields of the output.
        kernel_size: k, odd; the input is padded by k // 2 zeros on each side.
        group: a group or its name.
        in_type: ``"scalar"``, ``"vector"`` or ``"regular"``.
        out_type: the same.
        bias: whether to add one number per output field, shared over the group; starts at 0.

    Shapes:
        input [B, I, H, W] (scalar), [B, 2 I, H, W] (vector, ordered (i, component)) or
        [B, I, |G|, H, W] (regular); output with O, the same; ``weight`` [O, I, n].

    Raises:
        ValueError: an argument out of range, no such kernel, a bias of vectors, or at run time an
            input of the wrong shape.

    Reference: M. Weiler, G. Cesa, General E(2)-Equivariant Steerable CNNs, NeurIPS 2019.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        group: str | Group,
        in_type: str = "regular",
        out_type: str = "regular",
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_integer("in_channels", in_channels)
        check_integer("out_channels", out_channels)
        self.group = make_group(group)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.in_type = in_type
        self.out_type = out_type
        basis = self._exact_basis().to(torch.get_default_dtype())
        _check_bias(bias, out_type)
        self.register_buffer("basis", basis, persistent=False)
        self.weight = nn.Parameter(torch.empty(self._weight_shape()))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.kernel_cache = KernelCache()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw coefficients as e2cnn does (generalised He initialisation); the bias is 0."""
        std = kernel_basis(self.group, self.kernel_size, self.in_type, self.out_type).std
        std = std.to(self.weight) / math.sqrt(self.in_channels)
        coefficients = std * torch.randn(self.out_channels, self.in_channels, len(std)).to(std)
        with torch.no_grad():
            self.weight.copy_(
                coefficients.view(*coefficients.shape, *[1] * (self.weight.dim() - 3))
            )
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def expanded_kernel(self) -> Tensor:
        """The ordinary convolution weight [O output fibre, I input fibre, k, k]."""
        kernel = torch.einsum("oib,bpqyx->opiqyx", self.weight, self.basis)
        return kernel.flatten(2, 3).flatten(0, 1)

    def expanded_bias(self) -> Tensor | None:
        """The ordinary convolution bias [O output fibre]."""
        if self.bias is None:
            return None
        return self.bias.repeat_interleave(fibre_size(self.group, self.out_type))

    def forward(self, x: Tensor) -> Tensor:
        self._check_input(x)
        kernel = self.kernel_cache.get((self.weight,), self.expanded_kernel)
        y = F.conv2d(x.flatten(1, -3), kernel, self.expanded_bias(), padding=self.kernel_size // 2)
        return y.unflatten(1, (self.out_channels, -1)) if self.out_type == "regular" else y

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"group={self.group.name}, in_type={self.in_type}, out_type={self.out_type}, "
            f"bias={self.bias is not None}"
        )

    def _weight_shape(self) -> tuple[int, ...]:
        return self.out_channels, self.in_channels, len(self._exact_basis())

    def _exact_basis(self) -> Tensor:
        """[n, output fibre, input fibre, k, k] in float64."""
        return kernel_basis(self.group, self.kernel_size, self.in_type, self.out_type).kernels

    def _check_input(self, x: Tensor) -> None:
        fibre = fibre_size(self.group, self.in_type)
        regular = self.in_type == "regular"
        channels = (self.in_channels, fibre) if regular else (self.in_channels * fibre,)
        if x.dim() != 3 + len(channels) or tuple(x.shape[1:-2]) != channels:
            shape = ", ".join(map(str, ("B", *channels, "H", "W")))
            raise ValueError(
                f"input of {type(self).__name__} must have the shape [{shape}] "
                f"({self.in_channels} {self.in_type} fields, group {self.group.name}); "
                f"got {list(x.shape)}. Change `in_channels`, `in_type` or `group` of this layer, "
                "or the layer before it."
            )

    def _apply(self, fn, recurse=True):
        """Recompute the basis in double precision when dtype or device changes."""
        super()._apply(fn, recurse)
        self.basis = self._exact_basis().to(self.basis)
        self.kernel_cache.clear()
        return self


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


def _check_bias(bias: bool, out_type: str) -> None:
    if bias and out_type == "vector":
        raise ValueError(
            "`bias` must be False for vector outputs, because a constant vector does not turn; "
            "got True. Use bias=False."
        )
