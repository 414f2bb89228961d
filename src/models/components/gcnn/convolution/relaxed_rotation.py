"""Relaxed group convolution: filter banks mixed anew for every group element."""

from typing import Any

import torch
from torch import Tensor

from ..relaxed import RelaxedLayer
from .rotation import GroupConv


class RelaxedGroupConv(RelaxedLayer, GroupConv):
    r"""`GroupConv` with W[o, g, i, h] = T_g sum_l w_l(g) psi_l[o, i, g^-1 h].

    Args:
        num_filter_banks: L. The others are `GroupConv`'s.

    Shapes:
        input and output as `GroupConv`; ``weight`` [L, O, I, |G|, k, k],
        ``relaxed_weights`` [L, |G|].

    Raises:
        ValueError: no bank, or what `GroupConv` raises.
    """

    def __init__(self, *args: Any, num_filter_banks: int = 1, **options: Any) -> None:
        super().__init__(*args, **options)
        self._make_banks(num_filter_banks)

    def expanded_kernel(self) -> Tensor:
        """W[o, g, i, h] = T_g sum_l w_l(g) psi_l[o, i, g^-1 h]: [O |G|, I |G|, k, k]."""
        order = self.group.order
        psi = self.mixed_banks().view(order, -1, self.kernel_size**2)
        turned = torch.bmm(psi, self.transform.mT)
        turned = turned.view(order, self.out_channels, self.in_channels, order, -1)
        return self._shift(turned.movedim(0, 2))
