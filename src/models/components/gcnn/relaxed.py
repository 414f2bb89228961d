"""What every relaxed layer has: filter banks and the weights that mix them per group element."""

import torch
from torch import Tensor, nn

from ..checks import check_positive_int


class RelaxedLayer(nn.Module):
    r"""Mixin: L filter banks psi_l, mixed with one weight per bank and group element.

    .. math:: \psi_g = \sum_l w_l(g)\, \psi_l

    replaces the strict layer's psi wherever element g needs it. T_g is linear, so the banks are
    mixed before they are turned and the bank of turned filters is never built. All weights
    start at one: a new layer is exactly equivariant.

    Attributes:
        weight: [L, ...], the banks, each shaped as the strict layer's weight.
        relaxed_weights: [L, |G|], w_l(g).

    Reference: R. Wang, R. Walters, R. Yu, Approximately Equivariant Networks for Imperfectly
    Symmetric Dynamics, ICML 2022.
    """

    def _make_banks(self, num_filter_banks: int) -> None:
        """Give each of the layer's L banks the shape its strict ``weight`` has now."""
        check_positive_int("num_filter_banks", num_filter_banks)
        self.num_filter_banks = num_filter_banks
        self.weight = nn.Parameter(torch.empty(num_filter_banks, *self.weight.shape))
        self.relaxed_weights = nn.Parameter(torch.ones(num_filter_banks, self.group.order))
        self.reset_parameters()

    def expanded_kernel(self) -> Tensor:
        """W as an ordinary convolution weight: the strict layer's, of the mixed banks."""
        if self.permutes:
            return self._permute(self._mix_each_channel())
        return self._turn_each(self.relaxed_weights.t() @ self.weight.flatten(1))

    def _mix_each_channel(self) -> Tensor:
        """psi_g for every output channel, [O, |G|, ...], the rest flat."""
        banks = self.weight.flatten(2).transpose(0, 1)
        return torch.bmm(self.relaxed_weights.t().expand(self.out_channels, -1, -1), banks)

    def _exact_transform(self) -> Tensor:
        """A_g, of two kernels at once where they are 3 x 3: products of 9 columns are slow."""
        transform = super()._exact_transform()
        size = transform.shape[-1]
        if size != 9 or self.out_channels * self.in_channels * self.fibre_size % 2:
            return transform
        return torch.stack([torch.block_diag(t, t) for t in transform])

    def _kernel_parameters(self) -> tuple[Tensor, ...]:
        return self.weight, self.relaxed_weights

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_filter_banks={self.num_filter_banks}"
