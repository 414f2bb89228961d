"""The equivariance error of the network along training."""

from typing import Any

from src.callbacks.probe import ProbeCallback
from src.measures import probes
from src.models.components.gcnn.groups import Group, make_group


class EquivarianceError(ProbeCallback):
    """Logs the network's equivariance error, see `src.measures.probes.equivariance_error`.

    Names: ``dynamics/equivariance_error``, ``dynamics/equivariance_error/<layer>`` and, where
    elements do not map the pixel grid to itself, ``dynamics/equivariance_error_floor``.

    Args:
        every_n_epochs, num_samples, split: see `ProbeCallback`.
        group: the group to measure with; by default the network's own.
        fallback_group: taken where ``group`` is not given and the network has no group, or the
            trivial one.
        options: the other ones of the probe.

    Raises:
        TypeError, ValueError: what `ProbeCallback` raises; an unknown group.
    """

    probe = staticmethod(probes.equivariance_error)

    def __init__(
        self,
        every_n_epochs: int = 5,
        num_samples: int = 128,
        split: str = "val",
        *,
        group: str | Group | None = None,
        fallback_group: str | Group = "c4",
        **options: Any,
    ) -> None:
        groups = {
            "group": None if group is None else make_group(group),
            "fallback_group": make_group(fallback_group),
        }
        super().__init__(every_n_epochs, num_samples, split, **groups, **options)
