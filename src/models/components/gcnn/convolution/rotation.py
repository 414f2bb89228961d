"""Group convolution: from feature map to feature map on the group."""

from typing import Any

import torch
from torch import Tensor, nn

from src.models.components.gcnn.base import GroupLayer, fibre_transform
from src.models.components.gcnn.groups import Group
from src.models.components.gcnn.permute import permute_rows


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
        if not self.permutes:
            self._register_places()
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, |G|, H, W] -> [B, O, |G|, H', W']."""
        self._check_input(x, ("B", self.in_channels, self.group.order, "H", "W"))
        return self._convolve(x.flatten(1, 2))

    def _exact_transform(self) -> Tensor:
        """T_g alone: rho(g) puts the turned kernels in their places."""
        return fibre_transform(self.group, self.kernel_size, self.interpolation, "scalar")

    def _turn_shared(self, psi: Tensor) -> Tensor:
        if self.permutes:
            return super()._turn_shared(psi)
        turned = psi.reshape(-1, self.kernel_size**2) @ self.transform.flatten(0, 1).t()
        return self._put_in_places(turned)

    def _turn_each(self, psi: Tensor) -> Tensor:
        psi = psi.reshape(self.group.order, -1, self.transform.shape[-1])
        return self._put_in_places(torch.bmm(psi, self.transform.mT))

    def _put_in_places(self, turned: Tensor) -> Tensor:
        rows = turned.reshape(-1, self.kernel_size**2)
        return self._as_conv_weight(permute_rows(rows, self.source, self.target))

    def _register_places(self) -> None:
        """Where the kernel at (o, g, i, h) comes from: T_g psi[o, i, g^-1 h], and back."""
        order = self.group.order
        o, g, i, h = torch.meshgrid(
            *map(torch.arange, (self.out_channels, order, self.in_channels, order)),
            indexing="ij",
        )
        source = self._row(o, g, i, self.group.cayley[self.group.inverse[g], h]).flatten()
        self.register_buffer("source", source, persistent=False)
        self.register_buffer("target", source.argsort(), persistent=False)

    def _row(self, o: Tensor, g: Tensor, i: Tensor, h: Tensor) -> Tensor:
        """Row of T_g psi[o, i, h] among the turned kernels, ordered (o, i, h, g)."""
        order = self.group.order
        return ((o * self.in_channels + i) * order + h) * order + g
