"""Group convolutions, strict and relaxed: from feature map to feature map on the group."""

from typing import Any

import torch
from torch import Tensor, nn

from src.models.components.gcnn.base import GroupLayer, fibre_transform
from src.models.components.gcnn.filter_banks import RelaxedLayer


class GroupConv(GroupLayer):
    r"""Convolve feature maps over the group and the plane.

    .. math:: y_o(x, g) = b_o + \sum_{i, h, x'} W_{o,g,i,h}(x' - x)\, f_i(x', h),
              \qquad W_{o,g,i,h} = T_g \psi_{o,i,g^{-1}h}

    Turning the input by r, f(r^-1 x, r^-1 h), turns the output the same way. Arguments are those
    of `GroupLayer`, without ``in_type``.

    Shapes:
        input [B, I, |G|, H, W]; output [B, O, |G|, H', W']; ``weight`` [O, I, |G|, k, k].

    Reference: T. Cohen, M. Welling, Group Equivariant Convolutional Networks, ICML 2016.
    """

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, in_type="regular", **options)
        order = self.group.order
        shape = (self.out_channels, self.in_channels, order, self.kernel_size, self.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))
        if not self.permutes:  # where the kernel at (o, g, i, h) comes from, and goes back to
            sizes = map(torch.arange, (order, self.out_channels, order, self.in_channels))
            g, o, h, i = torch.meshgrid(*sizes, indexing="ij")
            source = self._row(o, g, i, self.group.cayley[self.group.inverse[g], h]).flatten()
            self.source, self.target = source, source.argsort()
            self.index_tables = ("source", "target")
        self.reset_parameters()

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
        order, k = self.group.order, self.kernel_size
        rows = permute_rows(rows, self.source, self.target)
        kernel = rows.view(order, self.out_channels, order, self.in_channels, k, k)
        return kernel.permute(1, 0, 3, 2, 4, 5)

    def _row(self, o: Tensor, g: Tensor, i: Tensor, h: Tensor) -> Tensor:
        """Row of T_g psi[o, i, h] among the turned kernels, ordered (o, i, h, g)."""
        order = self.group.order
        return ((o * self.in_channels + i) * order + h) * order + g


class RelaxedGroupConv(RelaxedLayer, GroupConv):
    """`GroupConv` with W[o, g, i, h] = T_g sum_l w_l(g) psi_l[o, i, g^-1 h]: see `RelaxedLayer`."""

    def _row(self, o: Tensor, g: Tensor, i: Tensor, h: Tensor) -> Tensor:
        """Row of T_g psi_g[o, i, h] among the turned kernels, ordered (g, o, i, h)."""
        return ((g * self.out_channels + o) * self.in_channels + i) * self.group.order + h


def permute_rows(x: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """``x[source]`` for rows x [R, n], a permutation ``source`` [R] and its inverse ``target``.

    Same values and gradients, but the backward pass copies rows instead of adding them up.
    """
    needs_gradient = torch.is_grad_enabled() and x.requires_grad
    if torch.compiler.is_compiling() or not needs_gradient:
        return x.index_select(0, source)
    return _PermuteRows.apply(x, source, target)


class _PermuteRows(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        return x.index_select(0, source)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, source, target = inputs
        ctx.save_for_backward(source, target)
        ctx.save_for_forward(source, target)

    @staticmethod
    def backward(ctx, grad: Tensor):
        source, target = ctx.saved_tensors
        return _PermuteRows.apply(grad, target, source), None, None

    @staticmethod
    def jvp(ctx, tangent: Tensor, *_):
        source, target = ctx.saved_tensors
        return _PermuteRows.apply(tangent, source, target)
