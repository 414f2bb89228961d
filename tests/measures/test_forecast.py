import math

import pytest
import torch

from src.measures import (
    ForecastScores,
    divergence,
    kinetic_energy,
    persistence,
    squared_error,
)


def windows(number=5, horizon=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shape = (number, horizon, 2, 5, 6)
    forecast, truth = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))
    return forecast, truth, torch.randn(number, 2, 5, 6, generator=generator, dtype=dtype)


def scores_of(*batches, **options):
    scores = ForecastScores(**options)
    for batch in batches:
        scores.update(*batch)
    return {name: value.item() for name, value in scores.compute().items()}


def grid(height=7, width=9):
    y, x = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float64) for n in (height, width)), indexing="ij"
    )
    return x, y


def test_persistence_repeats_the_last_frame():
    last = torch.randn(3, 2, 4, 4)
    repeated = persistence(last, 5)
    assert repeated.shape == (3, 5, 2, 4, 4)
    assert all(torch.equal(frame, last) for frame in repeated.unbind(1))


def test_squared_error_of_a_constant_difference():
    truth = torch.randn(2, 3, 2, 4, 5)
    offset = torch.tensor([3.0, 1.0]).view(2, 1, 1)
    torch.testing.assert_close(squared_error(truth + offset, truth), torch.full((2, 3), 5.0))


def test_energy_of_a_constant_flow():
    velocity = torch.tensor([3.0, -4.0]).view(2, 1, 1).expand(6, 2, 5, 5)
    torch.testing.assert_close(kinetic_energy(velocity), torch.full((6,), 12.5))


def test_energy_of_a_vortex():
    """v = (-y, x) about the centre of an n x n box: the mean of x^2 is (n^2 - 1) / 12."""
    x, y = grid(9, 9)
    velocity = torch.stack([-(y - 4), x - 4])
    assert kinetic_energy(velocity).item() == pytest.approx((81 - 1) / 12)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (lambda x, y: (3 * x, -1 * y), 2.0),
        (lambda x, y: (y, x), 0.0),
        (lambda x, y: (-y, x), 0.0),
        (lambda x, y: (x * y, -y * y / 2), 0.0),
        (lambda x, y: (0 * x, 0 * x + 7), 0.0),
    ],
)
def test_divergence_of_fields_up_to_second_order_is_exact(field, expected):
    result = divergence(torch.stack(field(*grid())))
    assert result.shape == (5, 7)
    torch.testing.assert_close(result, torch.full_like(result, expected))


def test_divergence_is_the_central_difference():
    """Of sin(k x) it is sin(k) cos(k x), not k cos(k x)."""
    x, _ = grid()
    result = divergence(torch.stack([torch.sin(0.7 * x), 0 * x]))
    torch.testing.assert_close(result, math.sin(0.7) * torch.cos(0.7 * x)[1:-1, 1:-1])


def test_divergence_turns_with_the_flow():
    velocity = torch.randn(2, 6, 6)
    turned = torch.stack([velocity[1], -velocity[0]]).rot90(1, (-2, -1))
    torch.testing.assert_close(divergence(turned), divergence(velocity).rot90(1, (-2, -1)))


@pytest.mark.parametrize("shape", [(2, 2, 5), (4, 2, 5, 1)])
def test_the_divergence_needs_neighbours(shape):
    with pytest.raises(ValueError, match=r"at least 3 rows and 3 columns of cells; got .*larger"):
        divergence(torch.zeros(shape))


def test_scores_are_means_over_everything_and_roots_come_last():
    forecast, truth, last = windows()
    scores = scores_of((forecast, truth, last))
    assert scores["rmse"] == pytest.approx((forecast - truth).square().mean().sqrt().item())
    for t in range(3):
        error = (forecast - truth)[:, t].square().mean().sqrt().item()
        assert scores[f"rmse/{t + 1:02d}"] == pytest.approx(error)
    repeated = (last[:, None] - truth).square().mean().sqrt().item()
    assert scores["rmse_persistence"] == pytest.approx(repeated)
    for name, velocity in (("", forecast), ("_true", truth)):
        assert scores[f"energy{name}"] == pytest.approx(velocity.square().mean().item())
        rms = divergence(velocity).square().mean().sqrt().item()
        assert scores[f"divergence{name}"] == pytest.approx(rms)
    assert len(scores) == 6 + 3


def test_horizons_are_named_in_their_order():
    scores = scores_of(windows(1, 12))
    names = [name for name in scores if name.startswith("rmse/")]
    assert names == sorted(names) == [f"rmse/{t:02d}" for t in range(1, 13)]


def test_a_perfect_forecast_has_no_error():
    _, truth, last = windows()
    scores = scores_of((truth, truth, last))
    assert scores["rmse"] == scores["rmse/03"] == 0
    assert scores["energy"] == scores["energy_true"] > 0
    assert scores["divergence"] == scores["divergence_true"] > 0


@pytest.mark.parametrize("sizes", [(4, 1), (1, 3, 1), (2, 2, 1)])
def test_batches_of_unequal_size_count_by_their_samples(sizes):
    tensors = windows()
    parts = zip(*(tensor.split(sizes) for tensor in tensors))
    assert scores_of(*parts) == pytest.approx(scores_of(tensors), rel=1e-12)


def test_processes_add_up():
    """What another process has seen arrives through the metric's own synchronisation."""
    tensors = windows()
    mine, its = zip(*(tensor.split((4, 1)) for tensor in tensors))
    other = ForecastScores()
    other.update(*its)
    states = iter([other.sums, other.num_samples])
    options = {
        "dist_sync_fn": lambda state, group: [state, next(states)],
        "distributed_available_fn": lambda: True,
    }
    assert scores_of(mine, **options) == pytest.approx(scores_of(tensors), rel=1e-12)


def test_scores_start_anew_after_a_reset():
    scores = ForecastScores()
    scores.update(*windows(2, 6))
    scores.reset()
    scores.update(*windows(5, 3))
    assert scores.compute()["rmse"].item() == pytest.approx(scores_of(windows())["rmse"])


def test_half_precision_is_added_up_in_float32():
    tensors = [100 * tensor for tensor in windows(dtype=torch.float32)]
    halves = [tensor.bfloat16() for tensor in tensors]
    assert scores_of(halves)["rmse"] == pytest.approx(scores_of(tensors)["rmse"], rel=1e-2)
    scores = ForecastScores()
    scores.update(*halves)
    assert scores.sums.dtype == torch.float32


def test_shapes_must_agree():
    forecast, truth, last = windows()
    with pytest.raises(ValueError, match=r"shape of the truth and 3 frames.*got \[5, 2, 2, 5, 6\]"):
        ForecastScores().update(forecast[:, :2], truth, last)
    scores = ForecastScores()
    scores.update(forecast, truth, last)
    with pytest.raises(ValueError, match=r"3 frames like those before.*windows of one length"):
        scores.update(forecast[:, :2], truth[:, :2], last)
