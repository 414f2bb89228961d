"""How good a forecast of a velocity field is, and what its flow is like."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

MEAN_SQUARES = ("rmse", "rmse_persistence", "divergence", "divergence_true")
MEANS = ("energy", "energy_true")


def kinetic_energy(velocity: Tensor) -> Tensor:
    r"""Kinetic energy per unit of mass, mean over cells: :math:`\frac12 (v_0^2 + v_1^2)`.

    Takes velocities [..., 2, H, W] in cells per time unit; returns [...], in squares of that unit.
    """
    return velocity.square().sum(-3).mean((-2, -1)) / 2


def divergence(velocity: Tensor) -> Tensor:
    r"""Divergence by central differences, at the cells that have neighbours on all sides.

    .. math:: \frac{v_0(x + 1, y) - v_0(x - 1, y)}{2} + \frac{v_1(x, y + 1) - v_1(x, y - 1)}{2}

    with x the column, y the row, and cells of size 1. A field that is free of divergence on a
    staggered grid is so here up to the error of averaging it to the cells' centres. Takes
    velocities [..., 2, H, W] in cells per time unit; returns [..., H - 2, W - 2], per time unit.

    Raises:
        ValueError: if the field has fewer than 3 rows or columns.
    """
    height, width = velocity.shape[-2:]
    if min(height, width) < 3:
        raise ValueError(
            "the divergence needs at least 3 rows and 3 columns of cells; got "
            f"{height} x {width}. Use a larger box."
        )
    along_x = velocity[..., 0, 1:-1, 2:] - velocity[..., 0, 1:-1, :-2]
    along_y = velocity[..., 1, 2:, 1:-1] - velocity[..., 1, :-2, 1:-1]
    return (along_x + along_y) / 2


class ForecastScores(Metric):
    r"""Errors, energy and divergence of forecasts, over samples, frames and cells.

    Sums over samples are kept per horizon and added up over processes, so that every sample
    counts the same however samples fall into batches and onto devices. ``compute`` returns

    - ``rmse``: :math:`\sqrt{\mathrm{mean}\,(\hat v - v)^2}` over samples, frames, components and
      cells, the root taken last; ``rmse/01``, ``rmse/02``, ...: of the frames 1, 2, ... steps
      ahead; ``rmse_persistence``: of the last known frame, repeated;
    - ``energy``, ``energy_true``: mean `kinetic_energy` of forecast and truth;
    - ``divergence``, ``divergence_true``: root mean square of their `divergence`.

    Units are those of the velocities: cells per time unit.
    """

    full_state_update = False
    sums: Tensor
    num_samples: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("sums", torch.zeros(6, 1), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, forecast: Tensor, truth: Tensor, last: Tensor) -> None:
        """Add forecasts.

        Args:
            forecast, truth: [B, T, 2, H, W], T the same in every call.
            last: the last frame before them, [B, 2, H, W].

        Raises:
            ValueError: if shapes differ, or T from that of an earlier call.
        """
        known = self.sums.shape[1] if self.num_samples > 0 else truth.shape[1]
        if forecast.shape != truth.shape or truth.shape[1] != known:
            raise ValueError(
                f"forecasts must have the shape of the truth and {known} frames like those before "
                f"them; got {list(forecast.shape)} for {list(truth.shape)}. Give windows of one "
                "length."
            )
        forecast, truth, last = (
            v.to(torch.promote_types(v.dtype, torch.float32)) for v in (forecast, truth, last)
        )
        values = (
            (forecast - truth).square().mean((-3, -2, -1)),
            (last[:, None] - truth).square().mean((-3, -2, -1)),
            divergence(forecast).square().mean((-2, -1)),
            divergence(truth).square().mean((-2, -1)),
            kinetic_energy(forecast),
            kinetic_energy(truth),
        )
        self.sums = self.sums + torch.stack([value.sum(0) for value in values])
        self.num_samples = self.num_samples + len(truth)

    def compute(self) -> dict[str, Tensor]:
        """The scores by name."""
        means = dict(zip((*MEAN_SQUARES, *MEANS), self.sums / self.num_samples))
        per_frame = {f"rmse/{t:02d}": mse.sqrt() for t, mse in enumerate(means["rmse"], start=1)}
        roots = {name: means[name].mean().sqrt() for name in MEAN_SQUARES}
        return {**roots, **per_frame, **{name: means[name].mean() for name in MEANS}}
