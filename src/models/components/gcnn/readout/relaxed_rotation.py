"""Relaxed vector readout: filter banks mixed anew for every group element."""

from typing import Any

from src.models.components.gcnn.readout.rotation import VectorReadout
from src.models.components.gcnn.relaxed import RelaxedLayer


class RelaxedVectorReadout(RelaxedLayer, VectorReadout):
    r"""`VectorReadout` with W[o, :, i, h] = rho(h) T_h sum_l w_l(h) psi_l[o, i].

    Args:
        num_filter_banks: L. The others are `VectorReadout`'s.

    Shapes:
        input and output as `VectorReadout`; ``weight`` [L, O, 2, I, k, k],
        ``relaxed_weights`` [L, |G|].

    Raises:
        ValueError: no bank, or what `VectorReadout` raises.
    """

    def __init__(self, *args: Any, num_filter_banks: int = 1, **options: Any) -> None:
        super().__init__(*args, **options)
        self._make_banks(num_filter_banks)
