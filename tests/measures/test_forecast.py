import math

import numpy as np
import pytest
import torch
from torchmetrics.functional import (
    normalized_root_mean_squared_error,
    pearson_corrcoef,
)

from src.data.smoke.plumes import level_plumes
from src.data.smoke.simulation import Simulation
from src.measures import ForecastScores, divergence
from src.measures.forecast import energy_in_bands, kinetic_energy


def windows(number=5, horizon=3, num_known=2):
    options = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    forecast, truth = (torch.randn(number, horizon, 2, 5, 6, **options) for _ in range(2))
    return forecast, truth, torch.randn(number, num_known, 2, 5, 6, **options)


def values_of(scores):
    return {name: value.item() for name, value in scores.compute().items()}


def scores_of(*batches, **options):
    scores = ForecastScores(**options)
    for batch in batches:
        scores.update(*batch)
    return values_of(scores)


def grid(height=7, width=9):
    axes = (torch.arange(n, dtype=torch.float64) for n in (height, width))
    y, x = torch.meshgrid(*axes, indexing="ij")
    return x, y


def test_energy_of_a_constant_flow_and_of_a_vortex():
    """v = (-y, x) about the centre of an n x n box: the mean of x^2 is (n^2 - 1) / 12."""
    velocity = torch.tensor([3.0, -4.0]).view(2, 1, 1).expand(6, 2, 5, 5)
    torch.testing.assert_close(kinetic_energy(velocity), torch.full((6,), 12.5))
    x, y = grid(9, 9)
    assert kinetic_energy(torch.stack([-(y - 4), x - 4])).item() == pytest.approx((81 - 1) / 12)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (lambda x, y: (3 * x, -1 * y), lambda x: 2 + 0 * x),
        (lambda x, y: (-y, x + 7), lambda x: 0 * x),
        (lambda x, y: (x * y, -y * y / 2), lambda x: 0 * x),
        (lambda x, y: ((0.7 * x).sin(), 0 * x), lambda x: math.sin(0.7) * (0.7 * x).cos()),
    ],
)
def test_divergence_is_the_central_difference_and_turns_with_the_flow(field, expected):
    """Exact for fields up to second order; of sin(k x) it is sin(k) cos(k x), not k cos(k x)."""
    velocity = torch.stack(field(*grid()))
    result = divergence(velocity)
    torch.testing.assert_close(result, expected(grid()[0])[1:-1, 1:-1])
    turned = torch.stack([velocity[1], -velocity[0]]).rot90(1, (-2, -1))
    torch.testing.assert_close(divergence(turned), result.rot90(1, (-2, -1)))


@pytest.mark.parametrize(("num_known", "horizon"), [(1, 12), (3, 12), (2, 5)])
def test_scores_against_sums_over_everything(num_known, horizon):
    """Errors per step ahead; beside the last frame repeated and, of two frames, a straight line."""
    forecast, truth, known = windows(horizon=horizon, num_known=num_known)
    blind = {"persistence": known[:, -1:].expand_as(truth)}
    if num_known > 1:
        frames = [known[:, -2], known[:, -1]]
        for _ in range(horizon):
            frames.append(2 * frames[-1] - frames[-2])
        blind["linear"] = torch.stack(frames[2:], 1)
    expected, per_step = {}, {}
    for name, velocity in {"": forecast, **blind}.items():
        squares = (velocity - truth).square()
        name = f"rmse_{name}".removesuffix("_")
        expected[name] = squares.mean().sqrt()
        per_step[name] = [squares[:, t].mean().sqrt() for t in range(horizon)]
    errors, *others = (torch.stack(values) ** 2 for values in per_step.values())
    best = torch.stack(others).amin(0)
    expected["skill"], per_step["skill"] = 1 - errors.mean() / best.mean(), 1 - errors / best
    size = (forecast - truth).flatten(2).norm(dim=-1) / truth.flatten(2).norm(dim=-1)
    expected["nrmse"], per_step["nrmse"] = size.mean(), size.mean(0)
    expected[f"nrmse/01-{min(horizon, 6):02d}"] = size[:, :6].mean()
    if horizon > 6:
        expected["nrmse/07-12"] = size[:, 6:].mean()
    behind = [t for t, skill in enumerate(per_step["skill"]) if skill <= 0]
    expected["steps_ahead"], expected["correlation_time"] = torch.tensor(behind[0]), torch.tensor(1)
    bands = energy_in_bands(forecast), energy_in_bands(truth)
    for index, band in enumerate(("low", "middle", "high")):
        ours, theirs = (energy[..., index] for energy in bands)
        error = (ours - theirs).abs().sum(0) / theirs.sum(0)
        expected[f"spectrum_error/{band}"] = error.mean()
    for name, velocity in (("", forecast), ("_true", truth)):
        expected[f"energy{name}"] = velocity.square().mean()
        expected[f"divergence{name}"] = divergence(velocity).square().mean().sqrt()
    for name, values in per_step.items():
        expected |= {f"{name}/{t:02d}": value for t, value in enumerate(values, start=1)}
    scores = scores_of((forecast, truth, known))
    assert scores == pytest.approx({name: value.item() for name, value in expected.items()})


def test_how_many_steps_a_forecast_stays_ahead_and_correlated():
    """It follows the truth for four steps of five, is the last frame at the fifth, then returns."""
    _, truth, known = windows(50, 8)
    forecast = truth.clone()
    forecast[:, 4] = known[:, -1]
    for given, ahead in ((forecast, 4), (truth, 8)):
        scores = scores_of((given, truth, known))
        assert (scores["steps_ahead"], scores["correlation_time"]) == (ahead, ahead + 1)
    assert scores["rmse"] == scores["nrmse"] == scores["spectrum_error/high"] == 0
    assert scores["skill/01"] == scores["skill"] == 1


def test_what_flows_in_a_closed_box_has_no_mean():
    """So that dividing by the root mean square, as in nRMSE, is dividing by the deviation."""
    plumes = level_plumes(9, inflow=(8, 3), radius=2, buoyancy=0.1, resolution=16)
    simulation = Simulation(plumes, velocity_dt=0.5, dtype="float64")
    for _ in range(5):
        simulation.step()
    velocity = simulation.velocity("centered")
    assert np.abs(velocity).max() > 0.2
    assert np.abs(velocity.mean((-2, -1))).max() < 1e-14


@pytest.mark.parametrize("scale", [0.1, 2.0])
def test_errors_beside_those_of_torchmetrics(scale):
    """Of one frame at a time, scattered by `scale` about the truth. Frames have no mean here."""
    noise, truth, known = windows()
    truth = truth - truth.mean((-2, -1), keepdim=True)
    forecast = truth + scale * noise
    columns = [v.flatten(2).flatten(0, 1).T.contiguous() for v in (forecast, truth)]
    vrmse = normalized_root_mean_squared_error(*columns, normalization="std", num_outputs=15)
    correlation = pearson_corrcoef(*columns).view(5, 3).mean(0)
    first = (correlation < 0.8).nonzero().flatten().tolist()
    scores = scores_of((forecast, truth, known))
    assert scores["nrmse"] == pytest.approx(vrmse.mean().item())
    assert scores["correlation_time"] == (first[0] + 1 if first else 4)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (9, 6)])
def test_energy_in_bands_is_that_of_waves_in_the_mirrored_box(height, width):
    """By a Fourier transform of the field and its images behind the walls; unchanged by turns."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(3, 2, height, width, generator=generator, dtype=torch.float64)
    signs = torch.tensor([-1.0, 1.0]).view(2, 1, 1)
    box = torch.cat((v, signs * v.flip(-1)), -1)
    box = torch.cat((box, -signs * box.flip(-2)), -2)
    power = torch.fft.fft2(box, norm="forward").abs().square().sum(-3) / 2
    size = max(height, width)
    k_y, k_x = (2 * size * torch.fft.fftfreq(2 * n, dtype=v.dtype) for n in (height, width))
    k = torch.hypot(k_y[:, None], k_x)
    low, middle = {64: (4, 16), 9: (2, 4)}[size]
    masks = (k < low, (k >= low) & (k < middle), k >= middle)
    energies = energy_in_bands(v)
    torch.testing.assert_close(
        energies, torch.stack([(power * mask).sum((-2, -1)) for mask in masks], -1)
    )
    torch.testing.assert_close(energies.sum(-1), kinetic_energy(v))
    turned = torch.stack((v[:, 1], -v[:, 0]), 1).rot90(1, (-2, -1))
    torch.testing.assert_close(energy_in_bands(turned), energies)


@pytest.mark.parametrize("sizes", [(4, 1), (1, 3, 1)])
def test_batches_of_unequal_size_count_by_their_samples(sizes):
    """Also after a reset, and over processes, by the metric's own synchronisation."""
    expected = pytest.approx(scores_of(windows()), rel=1e-12)
    scores, (first, *rest) = ForecastScores(), zip(*(tensor.split(sizes) for tensor in windows()))
    scores.update(*windows(2, 6))
    scores.reset()
    for part in rest:
        scores.update(*part)
    states = iter([scores.sums, scores.num_samples])
    synchronisation = {
        "dist_sync_fn": lambda state, group: [state, next(states)],
        "distributed_available_fn": lambda: True,
    }
    assert scores_of(first, **synchronisation) == expected
    scores.update(*first)
    assert values_of(scores) == expected


def test_half_precision_is_added_up_in_float32():
    tensors, scores = [100 * tensor.float() for tensor in windows()], ForecastScores()
    scores.update(*(tensor.bfloat16() for tensor in tensors))
    assert scores.sums.dtype == torch.float32
    assert values_of(scores)["rmse"] == pytest.approx(scores_of(tensors)["rmse"], rel=1e-2)


def test_shapes_are_checked():
    forecast, truth, known = windows()
    with pytest.raises(ValueError, match=r"shape of the truth and 3 frames.*got \[5, 2, 2, 5, 6\]"):
        scores_of((forecast[:, :2], truth, known))
    with pytest.raises(ValueError, match=r"3 frames like those before.*windows of one length"):
        scores_of((forecast, truth, known), (forecast[:, :2], truth[:, :2], known))
    for shape in ((2, 2, 5), (4, 2, 5, 1)):
        with pytest.raises(ValueError, match=r"at least 3 rows and 3 columns of cells; got .*"):
            divergence(torch.zeros(shape))
