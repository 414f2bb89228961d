"""How good a forecast of a velocity field is, and what its flow is like."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

BANDS = ("low", "middle", "high")
MEAN_SQUARES = ("rmse", "rmse_persistence", "rmse_linear", "divergence", "divergence_true")
MEANS = ("energy", "energy_true", "nrmse", "correlation")
LOST, HELD = ([f"{kind}/{band}" for band in BANDS] for kind in ("lost", "held"))
ROWS = (*MEAN_SQUARES, *MEANS, *LOST, *HELD)  # what is added up, each per step ahead

TRAINED_STEPS = 6  # up to which forecasts are trained, as published: the first window of `nrmse`
CORRELATED = 0.8


def kinetic_energy(velocity: Tensor) -> Tensor:
    r"""Kinetic energy per unit of mass, mean over cells: :math:`\frac12 (v_0^2 + v_1^2)`.

    Takes velocities [..., 2, H, W] in cells per time unit; returns [...], in squares of that unit.
    """
    return velocity.square().sum(-3).mean((-2, -1)) / 2


def energy_in_bands(velocity: Tensor) -> Tensor:
    r"""The part of `kinetic_energy` in large, middle and small structures, [..., 3].

    The field is taken apart into the waves of a closed box, in which what flows through a wall
    vanishes:

    .. math:: v_0 = \sum_{m, n} a_{mn} \sin(\pi m x / N) \cos(\pi n y / N), \quad
              v_1 = \sum_{m, n} b_{mn} \cos(\pi m x / N) \sin(\pi n y / N)

    with x the column and y the row, m and n half waves along the box of N cells (the longer side),
    :math:`k^2 = m^2 + n^2`. The bands are :math:`k < N^{1/3}`, up to :math:`k < N^{2/3}`, and the
    rest, both limits rounded: of 64 cells k < 4, k < 16, waves longer than 32 and 8 cells.

    Takes velocities [..., 2, H, W] in cells per time unit; the bands add up to `kinetic_energy`.
    """
    height, width = velocity.shape[-2:]
    size = max(height, width)
    limits = torch.tensor([round(size ** (1 / 3)), round(size ** (2 / 3))])
    energies = []
    for component, (along_y, along_x) in enumerate(((False, True), (True, False))):
        waves_y, k_y = _waves(height, along_y, velocity)
        waves_x, k_x = _waves(width, along_x, velocity)
        power = (waves_y @ velocity[..., component, :, :] @ waves_x.T).square()
        k = torch.hypot(k_y[:, None] * size / height, k_x * size / width)
        band = torch.bucketize(k, limits, right=True)
        energies.append(torch.stack([power[..., band == b].sum(-1) for b in range(3)], -1))
    return sum(energies) / (2 * height * width)


def _waves(length: int, is_sine: bool, like: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal half waves over cells, [length, length], and the number of them in the box."""
    k = torch.arange(length, dtype=torch.float64) + int(is_sine)
    angles = torch.pi * k[:, None] * (torch.arange(length) + 0.5) / length
    waves = math.sqrt(2 / length) * (angles.sin() if is_sine else angles.cos())
    waves[-1 if is_sine else 0] /= math.sqrt(2)
    return waves.to(like), k


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
    r"""Errors of forecasts, also beside forecasts that know nothing; energy and divergence.

    Sums over samples are kept per step ahead and added up over processes, so that every sample
    counts the same however samples fall into batches and onto devices. ``compute`` returns, with
    ``<name>/01``, ``<name>/02``, ... for the frames 1, 2, ... steps ahead,

    - ``rmse`` and ``rmse/01``, ...: :math:`\sqrt{\mathrm{mean}\,(\hat v - v)^2}` over samples,
      frames, components and cells, the root taken last;
    - ``rmse_persistence``, the same of the last known frame repeated; ``rmse_linear``, of
      :math:`v_T + t\,(v_T - v_{T-1})` at t steps ahead, only where two frames are known;
    - ``skill`` and ``skill/01``, ...: 1 - MSE / MSE of the better of these two at each step: 1 is
      perfect, above 0 better than both; over all steps, mean MSE / mean of the better ones;
    - ``steps_ahead``: the number of steps up to which skill stays above 0;
    - ``nrmse`` and ``nrmse/01``, ...: mean over samples (and steps) of
      :math:`\sqrt{\mathrm{mean}\,(\hat v - v)^2 / \mathrm{mean}\, v^2}` of one frame;
      ``nrmse/01-06`` and ``nrmse/07-20`` (to the last): over the steps trained and those beyond.
      As the mean velocity in a closed box is zero, this is the VRMSE of The Well (2024), too, but
      for both components together;
    - ``correlation_time``: the first step at which the correlation of forecast and truth, over
      components and cells, is below 0.8 in the mean over samples; one step behind the last where
      there is none;
    - ``spectrum_error/low``, ``/middle``, ``/high``: :math:`\sum |\hat E - E| / \sum E` over
      samples of the `energy_in_bands`, mean over steps;
    - ``energy``, ``energy_true``: mean `kinetic_energy` of forecast and truth;
    - ``divergence``, ``divergence_true``: root mean square of their `divergence`.

    RMSE, energy and divergence are in cells and time units; the others have no unit.

    References: Ohana et al., The Well, NeurIPS 2024; Gupta and Brandstetter, Towards
    multi-spatiotemporal-scale generalized PDE modeling, TMLR 2023 (correlation).
    """

    full_state_update = False
    sums: Tensor
    num_samples: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("sums", torch.zeros(len(ROWS), 1), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, forecast: Tensor, truth: Tensor, known: Tensor) -> None:
        """Add forecasts.

        Args:
            forecast, truth: [B, T, 2, H, W], T the same in every call.
            known: the frames before them, [B, n, 2, H, W].

        Raises:
            ValueError: if shapes differ, or T from that of an earlier call.
        """
        steps = self.sums.shape[1] if self.num_samples > 0 else truth.shape[1]
        if forecast.shape != truth.shape or truth.shape[1] != steps:
            raise ValueError(
                f"forecasts must have the shape of the truth and {steps} frames like those before "
                f"them; got {list(forecast.shape)} for {list(truth.shape)}. Give windows of one "
                "length."
            )
        forecast, truth, known = (
            v.to(torch.promote_types(v.dtype, torch.float32)) for v in (forecast, truth, known)
        )
        error, last = _mean_square(forecast - truth), known[:, -1:]
        power, power_true = energy_in_bands(forecast), energy_in_bands(truth)
        values = (
            error,
            _mean_square(last - truth),
            _mean_square(_linear(known, steps) - truth),
            divergence(forecast).square().mean((-2, -1)),
            divergence(truth).square().mean((-2, -1)),
            kinetic_energy(forecast),
            kinetic_energy(truth),
            (error / _mean_square(truth)).sqrt(),
            F.cosine_similarity(_centred(forecast), _centred(truth), dim=-1),
            *(power - power_true).abs().unbind(-1),
            *power_true.unbind(-1),
        )
        self.sums = self.sums + torch.stack([value.sum(0) for value in values])
        self.num_samples = self.num_samples + len(truth)

    def compute(self) -> dict[str, Tensor]:
        """The scores by name."""
        means = dict(zip(ROWS, self.sums / self.num_samples))
        scores = {}
        for name in MEAN_SQUARES:
            scores[name] = means[name].mean().sqrt()
            if name.startswith("rmse"):
                scores |= _numbered(name, means[name].sqrt())
        if scores["rmse_linear"].isnan():  # one known frame
            scores = {name: v for name, v in scores.items() if "linear" not in name}
        best = torch.fmin(means["rmse_persistence"], means["rmse_linear"])  # fmin leaves NaN out
        skill = 1 - means["rmse"] / best
        scores["skill"] = 1 - means["rmse"].mean() / best.mean()
        scores |= _numbered("skill", skill)
        scores["steps_ahead"] = (skill > 0).cumprod(0).sum().to(skill)
        nrmse = means["nrmse"]
        scores |= {"nrmse": nrmse.mean()} | _numbered("nrmse", nrmse)
        for first, end in ((0, TRAINED_STEPS), (TRAINED_STEPS, len(nrmse))):
            if (window := nrmse[first:end]).numel() > 1:
                scores[f"nrmse/{first + 1:02d}-{first + len(window):02d}"] = window.mean()
        correlated = (means["correlation"] >= CORRELATED).cumprod(0).sum()
        scores["correlation_time"] = (correlated + 1).to(nrmse)
        for band, lost, held in zip(BANDS, LOST, HELD):
            scores[f"spectrum_error/{band}"] = (means[lost] / means[held]).mean()
        return scores | {name: means[name].mean() for name in ("energy", "energy_true")}


def _numbered(name: str, values: Tensor) -> dict[str, Tensor]:
    return {f"{name}/{step:02d}": value for step, value in enumerate(values, start=1)}


def _mean_square(velocity: Tensor) -> Tensor:
    """Mean over components and cells, [...]."""
    return velocity.square().mean((-3, -2, -1))


def _centred(velocity: Tensor) -> Tensor:
    """[..., 2, H, W] -> [..., 2 H W], of mean zero."""
    flat = velocity.flatten(-3)
    return flat - flat.mean(-1, keepdim=True)


def _linear(known: Tensor, steps: int) -> Tensor:
    """v + t (v - v_prev), t steps ahead, [B, steps, 2, H, W]; NaN of one known frame."""
    if known.shape[1] < 2:
        return torch.full_like(known[:, :1], math.nan)
    ahead = torch.arange(1, steps + 1, device=known.device).view(-1, 1, 1, 1)
    return known[:, -1:] + ahead * (known[:, -1:] - known[:, -2:-1])
