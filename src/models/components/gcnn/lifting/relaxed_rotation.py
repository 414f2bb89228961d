"""Relaxed lifting convolution: filter banks mixed anew for every group element."""

from typing import Any

from src.models.components.gcnn.lifting.rotation import LiftingConv
from src.models.components.gcnn.relaxed import RelaxedLayer


class RelaxedLiftingConv(RelaxedLayer, LiftingConv):
    r"""`LiftingConv` with W[o, g, i] = rho(g) T_g sum_l w_l(g) psi_l[o, i].

    Args:
        num_filter_banks: L.
        group_biases: whether to add d_o(g), a bias per output channel and group element that
            starts at zero.

    The others are `LiftingConv`'s.

    Shapes:
        input and output as `LiftingConv`; ``weight`` [L, O, I (or 2 I), k, k],
        ``relaxed_weights`` [L, |G|], ``group_biases`` [O, |G|] or None.

    Raises:
        ValueError: no bank, or what `LiftingConv` raises.
    """

    def __init__(
        self, *args: Any, num_filter_banks: int = 1, group_biases: bool = False, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._make_banks(num_filter_banks, group_biases)
