import math

import pytest
import torch

from src.measures import ForecastScores, divergence
from src.measures.forecast import kinetic_energy


def windows(number=5, horizon=3):
    options = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    forecast, truth = (torch.randn(number, horizon, 2, 5, 6, **options) for _ in range(2))
    return forecast, truth, torch.randn(number, 2, 5, 6, **options)


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


def test_scores_are_means_over_everything_and_roots_come_last():
    forecast, truth, last = windows(horizon=12)
    squares = (forecast - truth).square()
    expected = {"rmse": squares.mean().sqrt()}
    expected["rmse_persistence"] = (last[:, None] - truth).square().mean().sqrt()
    expected |= {f"rmse/{t + 1:02d}": squares[:, t].mean().sqrt() for t in range(12)}
    for name, velocity in (("", forecast), ("_true", truth)):
        expected[f"energy{name}"] = velocity.square().mean()
        expected[f"divergence{name}"] = divergence(velocity).square().mean().sqrt()
    scores = scores_of((forecast, truth, last))
    assert scores == pytest.approx({name: value.item() for name, value in expected.items()})
    assert list(scores)[4:16] == [f"rmse/{t:02d}" for t in range(1, 13)]
    assert scores_of((truth, truth, last))["rmse"] == 0


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
    forecast, truth, last = windows()
    with pytest.raises(ValueError, match=r"shape of the truth and 3 frames.*got \[5, 2, 2, 5, 6\]"):
        scores_of((forecast[:, :2], truth, last))
    with pytest.raises(ValueError, match=r"3 frames like those before.*windows of one length"):
        scores_of((forecast, truth, last), (forecast[:, :2], truth[:, :2], last))
    for shape in ((2, 2, 5), (4, 2, 5, 1)):
        with pytest.raises(ValueError, match=r"at least 3 rows and 3 columns of cells; got .*"):
            divergence(torch.zeros(shape))
