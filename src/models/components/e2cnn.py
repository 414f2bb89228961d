"""Steerable convolutions, strict and relaxed, on the bases of the e2cnn library; a classifier."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from src.checks import wrong
from src.models.components.classifiers import GroupClassifier
from src.models.components.e2cnn_bases import kernel_basis, pixelwise_rank
from src.models.components.gcnn.caching import ExpandedConv
from src.models.components.gcnn.groups import Group
from src.models.components.gcnn.initial import kernel_bound
from src.models.components.gcnn.relaxation import PositionRelaxed


class E2Conv(ExpandedConv):
    r"""Convolution between scalar, vector or regular fields with e2cnn's steerable kernels.

    .. math:: W_{o,i} = \sum_b w_{o,i,b}\, B_b, \qquad
              B_b(g x) = \rho_{out}(g)\, B_b(x)\, \rho_{in}(g)^{-1}

    B are the kernels from one input field to one output field (`e2cnn_bases.kernel_basis`); the
    sum is one matrix product, equal to that of `e2cnn.nn.R2Conv`. Elements come in the order of
    `make_group`, and vectors turn as in `gcnn.actions`, so tensors need no reordering.

    Args:
        in_channels, out_channels: I and O, fields of the input and of the output.
        kernel_size: k, odd; the input is padded by k // 2 zeros on each side.
        group: a group or its name.
        in_type, out_type: ``"scalar"``, ``"vector"``, ``"vector+scalar"`` or ``"regular"``.
        bias: whether to add one number per output field, shared over the group.

    Shapes:
        input [B, I, H, W] (scalar), [B, 2 I, H, W] (vector, ordered (i, component)),
        [B, 3 I, H, W] (each vector followed by a scalar) or [B, I, |G|, H, W] (regular); output
        with O, the same; ``weight`` [O, I, n].

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
        super().__init__(in_channels, out_channels, kernel_size, group, in_type, out_type)
        self.stride, self.padding = 1, kernel_size // 2
        self.basis = self.exact_constants()["basis"].to(torch.get_default_dtype())
        if bias and out_type.startswith("vector"):
            rule = "False for vector outputs, because a constant vector does not turn"
            raise ValueError(wrong("bias", rule, bias, "bias=False"))
        self.weight = nn.Parameter(torch.empty(self._weight_shape()))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw coefficients so that the expanded kernel has the variance b^2 / 3 of `kernel_bound`.

        They are normally distributed, with deviations in the proportions of e2cnn's generalised He
        initialisation (whose kernels are up to sqrt(3) times as large as those of `GAIN` 1).
        """
        fan_in = self.in_channels * self.basis[0, 0].numel()
        std = kernel_basis(self.group, self.kernel_size, self.in_type, self.out_type).std
        std = std.to(self.weight) * (kernel_bound(fan_in) / math.sqrt(3))
        new = std * torch.randn(self.out_channels, self.in_channels, len(std)).to(std)
        with torch.no_grad():
            self.weight.copy_(new.view(*new.shape, *[1] * (self.weight.dim() - 3)))
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def expanded_fibres(self) -> Tensor:
        return torch.einsum("oib,bpqyx->opiqyx", self.weight, self.basis)

    def exact_constants(self) -> dict[str, Tensor]:
        """The basis [n, output fibre, input fibre, k, k] in float64."""
        basis = kernel_basis(self.group, self.kernel_size, self.in_type, self.out_type)
        return {"basis": basis.kernels}

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"group={self.group.name}, in_type={self.in_type}, out_type={self.out_type}, "
            f"bias={self.bias is not None}"
        )

    def _weight_shape(self) -> tuple[int, ...]:
        return self.out_channels, self.in_channels, len(self.basis)


class RelaxedSteerableConv(PositionRelaxed, E2Conv):
    r"""`E2Conv` whose coefficients may differ between the pixels y of the kernel.

    .. math:: W_{o,i}(y) = \sum_b w_{o,i,b}(y)\, B_b(y)

    A new layer's coefficients are constant in y and drawn as those of a new `E2Conv`: it is
    exactly equivariant. The bias stays equivariant. ``weight`` is [O, I, n, k, k].

    Reference: R. Wang, R. Walters, R. Yu, Approximately Equivariant Networks for Imperfectly
    Symmetric Dynamics, ICML 2022 (its published code starts from random, not constant, weights).
    """

    shared_axes: ClassVar[Mapping[str, int]] = {"weight": 2}

    def effective_weights(self) -> Tensor:
        """[O, I, n, k, k]: w_bar + theta (w(y) - w_bar)."""
        return self._relaxed(self.weight, num_axes=2)

    def expanded_fibres(self) -> Tensor:
        return torch.einsum("oibyx,bpqyx->opiqyx", self.effective_weights(), self.basis)

    def degrees_of_freedom(self) -> tuple[int, int]:
        """Dimensions of all kernels this layer can have, and of all kernels there are.

        At each pixel the kernels of the basis, as matrices from input to output fibre, span a
        space; the first number is the sum of its dimensions over pixels and pairs of fields, the
        second O I k^2 times both fibres. Equal numbers: the layer can become any convolution.
        """
        rank = pixelwise_rank(self.group, self.kernel_size, self.in_type, self.out_type)
        pairs = self.out_channels * self.in_channels
        return pairs * rank, pairs * self.basis[0].numel()

    def extra_repr(self) -> str:
        ours, plain = self.degrees_of_freedom()
        return f"{super().extra_repr()}, degrees_of_freedom={ours} of {plain}"

    def _weight_shape(self) -> tuple[int, ...]:
        return *super()._weight_shape(), self.kernel_size, self.kernel_size


class E2CNN(GroupClassifier):
    """`GCNN` with the steerable kernels of e2cnn in place of turned ones."""

    def __init__(
        self,
        *,
        group: str | Group = "c4",
        kernel_size: int = 3,
        in_type: str = "scalar",
        norm: str = "batch",
        **skeleton: Any,
    ) -> None:
        def make_conv(in_channels: int, out_channels: int, place: int) -> nn.Module:
            fields = in_type if place == 0 else "regular"
            bias = norm == "none"
            return E2Conv(in_channels, out_channels, kernel_size, group, fields, bias=bias)

        super().__init__(make_conv, group=group, in_type=in_type, norm=norm, **skeleton)
