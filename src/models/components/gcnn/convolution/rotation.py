"""Group convolution: from feature map to feature map on the group."""

from typing import Any

import torch
from torch import Tensor, nn

from ..base import GroupLayer
from ..groups import Group


class GroupConv(GroupLayer):
    r"""Convolve feature maps over the group and the plane.

    .. math:: y_o(x, g) = b_o + \sum_{i, h, x'} W_{o,g,i,h}(x' - x)\, f_i(x', h),
              \qquad W_{o,g,i,h} = T_g \psi_{o,i,g^{-1}h}

    Turning the input by r, f(r^-1 x, r^-1 h), turns the output the same way.

    Args: `GroupLayer`'s.

    Shapes:
        input [B, I, |G|, H, W]; output [B, O, |G|, H', W']; ``weight`` [O, I, |G|, k, k].

    Reference: T. Cohen, M. Welling, Group Equivariant Convolutional Networks, ICML 2016.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        group: str | Group,
        **options: Any,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, group, in_type="regular", **options
        )
        order = self.group.order
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels, order, kernel_size, kernel_size)
        )
        # position of (g, h), flattened -> position of (g, g^-1 h)
        g, h = torch.meshgrid(torch.arange(order), torch.arange(order), indexing="ij")
        source = self.group.cayley[self.group.inverse[g], h]
        self.register_buffer("shift", (g * order + source).flatten(), persistent=False)
        self.reset_parameters()

    def expanded_kernel(self) -> Tensor:
        """W[o, g, i, h] = T_g psi[o, i, g^-1 h]: [O |G|, I |G|, k, k]."""
        turned = self.weight.flatten(0, 2).flatten(1) @ self.transform.flatten(0, 1).t()
        order = self.group.order
        turned = turned.view(self.out_channels, self.in_channels, order, order, -1)
        return self._shift(turned.transpose(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, |G|, H, W] -> [B, O, |G|, H', W']."""
        self._check_input(x, ("B", self.in_channels, self.group.order, "H", "W"))
        return self._convolve(x.flatten(1, 2))

    def _shift(self, turned: Tensor) -> Tensor:
        """T_g psi[o, i, h'] at [o, i, g, h', x] -> W[o, g, i, h = g h'] as convolution weight."""
        order = self.group.order
        shifted = turned.flatten(2, 3).index_select(2, self.shift)
        shifted = shifted.view(self.out_channels, self.in_channels, order, order, -1)
        return self._as_conv_weight(shifted.transpose(1, 2))
