"""Relaxed group convolution: filter banks mixed anew for every group element."""

from typing import Any

from torch import Tensor

from src.models.components.gcnn.convolution.rotation import GroupConv
from src.models.components.gcnn.relaxed import RelaxedLayer


class RelaxedGroupConv(RelaxedLayer, GroupConv):
    r"""`GroupConv` with W[o, g, i, h] = T_g sum_l w_l(g) psi_l[o, i, g^-1 h].

    Args:
        num_filter_banks: L.
        group_biases: whether to add d_o(g), a bias per output channel and group element that
            starts at zero.

    The others are `GroupConv`'s.

    Shapes:
        input and output as `GroupConv`; ``weight`` [L, O, I, |G|, k, k],
        ``relaxed_weights`` [L, |G|], ``group_biases`` [O, |G|] or None.

    Raises:
        ValueError: no bank, or what `GroupConv` raises.
    """

    def __init__(
        self, *args: Any, num_filter_banks: int = 1, group_biases: bool = False, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._make_banks(num_filter_banks, group_biases)

    def _row(self, o: Tensor, g: Tensor, i: Tensor, h: Tensor) -> Tensor:
        """Row of T_g psi_g[o, i, h] among the turned kernels, ordered (g, o, i, h)."""
        order = self.group.order
        return ((g * self.out_channels + o) * self.in_channels + i) * order + h
