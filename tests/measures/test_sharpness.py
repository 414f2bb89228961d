import math

import numpy as np
import pytest
import torch
from torch import nn

from src.measures import Objective
from src.measures.directions import norm, random_directions
from src.measures.hessian import hessian_operator
from src.measures.sharpness import (
    expected_from_curvature,
    expected_from_gradient,
    sharpness_along,
    typical_steps,
    worst_case_sharpness,
)
from tests.helpers.dense_hessian import dense_hessian
from tests.helpers.objectives import (
    MODELS,
    Snapshot,
    bowl,
    configured_objective,
    make_network,
    make_objective,
    objective_at,
)

RADII = (0.0, 0.1, 0.5)
SCALES = ("absolute", "relative", "filter")
every_scale = pytest.mark.parametrize("scale", SCALES)


def draw(objective, number):
    generator = torch.Generator().manual_seed(0)
    return list(random_directions(objective.weights(), number, generator))


def changes_of(objective, radii=RADII, number=3, **options):
    return sharpness_along(objective, radii, draw(objective, number), **options).changes


def test_a_quadratic_loss_has_its_closed_form():
    """A linear model with squared errors: t g.d + t^2 d.H d / 2, from the change of residuals."""
    torch.manual_seed(0)
    x, y = torch.randn(7, 3).double(), torch.randn(7, 2).double()
    objective = Objective(nn.Linear(3, 2).double(), nn.MSELoss(), [(x, y)])
    residuals, directions = objective.network(x).detach() - y, draw(objective, 4)
    result = sharpness_along(objective, RADII, directions)
    t = torch.tensor([[1], [-1]]) * torch.tensor(RADII, dtype=torch.float64)
    for d, changes in zip(directions, result.changes):
        change = x @ d["weight"].mT + d["bias"]
        expected = 2 * t * (residuals * change).mean() + t**2 * change.square().mean()
        assert (changes - expected).abs().max() < 1e-14
    pairs = {"absolute": result.changes.abs().mean(1), "symmetric": result.changes.mean(1)}
    alone = sharpness_along(objective, [0.1], directions[:1])
    for kind, values in pairs.items():
        got = getattr(result, kind)
        assert got.value == pytest.approx(values.mean().item())
        assert got.standard_error == pytest.approx(values.mean(1).std().item() / 2, rel=1e-6)
        assert got.per_radius.tolist() == pytest.approx(values.mean(0).tolist())
        assert got.standard_errors.tolist() == pytest.approx((values.std(0) / 2).tolist())
        of_one = getattr(alone, kind)
        assert math.isnan(of_one.standard_error) and of_one.standard_errors.isnan().all()


def expected_changes(objective, scale="absolute"):
    """Closed forms: per t of the absolute change, and per t^2 of the symmetric one, no error."""
    steps = typical_steps(objective, scale)
    squares = torch.cat([s.flatten() for s in steps.values()]).square().numpy()
    curvature = squares @ np.diag(dense_hessian(objective)) / 2
    return expected_from_gradient(steps, objective.gradient()), curvature


def test_a_bowl_has_the_closed_forms():
    """t |g| sqrt(2 / (pi P)) without curvature, t^2 tr(H) / (2 P) whatever the gradient."""
    slopes = torch.linspace(1, 2, 400).double()
    plane = objective_at([0.0] * 400, lambda w: slopes * w)
    result = sharpness_along(plane, [0.5], draw(plane, 200))
    closed = 0.5 * slopes.norm().item() * math.sqrt(2 / (math.pi * 400))
    assert 0.5 * expected_changes(plane)[0] == pytest.approx(closed, rel=1e-12)
    assert abs(result.absolute.value - closed) < 4 * result.absolute.standard_error < 0.3 * closed
    assert result.symmetric.per_radius.abs().max() < 1e-15

    steep = bowl([5.0] * 4, [1.0, 2.0, 3.0, 14.0])
    result = sharpness_along(steep, [0.5], draw(steep, 500))
    closed = 0.5**2 * 20 / (2 * 4)
    assert 0.5**2 * expected_changes(steep)[1] == pytest.approx(closed, rel=1e-12)
    assert abs(result.symmetric.value - closed) < 4 * result.symmetric.standard_error < closed / 4
    round_bowl = changes_of(bowl([0.0] * 3, [1.0] * 3))
    expected = torch.tensor([t**2 / 2 for t in RADII], dtype=torch.float64).expand(3, 2, 3)
    assert torch.allclose(round_bowl, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    "scale", ["filter", *(pytest.param(s, marks=pytest.mark.slow) for s in SCALES[:2])]
)
def test_a_network_has_the_closed_forms_at_small_distances(scale):
    """Its exact trace within the errors of directions; the estimated one within its own error."""
    objective, t = make_objective(), {"filter": 1e-3, "relative": 1e-3}.get(scale, 1e-2)
    slope, curvature = expected_changes(objective, scale)
    result = sharpness_along(objective, [t], draw(objective, 100), scale=scale)
    for mean, closed in ((result.absolute, slope * t), (result.symmetric, curvature * t**2)):
        assert abs(mean.value - closed) < 4 * mean.standard_error < 0.5 * abs(closed)
    steps = typical_steps(objective, scale)
    found = expected_from_curvature(hessian_operator(objective), steps, max_products=200)
    assert abs(found.value - curvature) < 4 * found.standard_error < 0.25 * curvature


@every_scale
def test_a_radius_of_zero_changes_nothing_whatever_batch_norm_and_dropout_do(scale):
    for dtype in (torch.float32, torch.float64):
        network = make_network(dtype).to(memory_format=torch.channels_last)
        objective = make_objective(network, dtype=dtype, batch_size=4)
        assert not changes_of(objective, [0.0], scale=scale).any()
        assert worst_case_sharpness(objective, 0.0) == 0


@every_scale
def test_signs_and_sizes_of_changes_are_those_of_a_moved_copy(scale):
    """Against a network whose weights are moved by hand."""
    objective = make_objective()
    weights, direction, moved = objective.weights(), draw(objective, 1)[0], make_network()
    for name, parameter in moved.named_parameters():
        d, w = direction[name], weights[name]
        if scale == "relative":
            d = d * norm(weights)
        if scale == "filter" and w.ndim > 1:
            d = torch.stack([v * w.norm() / v.norm() for v, w in zip(d, w)])
        elif scale == "filter":
            d = d * w.norm() / d.norm()
        parameter.data.add_(0.3 * d)
    expected = make_objective(moved).value() - objective.value()
    forwards = changes_of(objective, [0.3], 1, scale=scale)[0, 0]
    assert forwards.item() == pytest.approx(expected, rel=1e-12)


def rescaled(factors):
    """Filters times factors, which the batch norm after them divides out again."""
    network, factors = make_network(), torch.tensor(factors).double()
    network[1].eps = 0.0
    network[0].weight.data.mul_(factors[:, None, None, None])
    network[1].running_mean.mul_(factors)
    network[1].running_var.mul_(factors.square())
    return make_objective(network)


def test_what_each_scale_does_not_see():
    """The unit of all weights; for ``filter`` alone also that of filters before a norm."""
    small, large = bowl([1.0, -2.0], [1.0, 2.0]), bowl([10.0, -20.0], [0.01, 0.02])
    even, uneven = rescaled([1.0] * 4), rescaled([0.1, 1.0, 5.0, 30.0])
    assert uneven.value() == pytest.approx(even.value(), rel=1e-12)
    for scale in SCALES:
        changes = [changes_of(o, scale=scale) for o in (small, large)]
        assert torch.allclose(*changes, rtol=1e-12, atol=1e-15) == (scale != "absolute")
        changes = [changes_of(o, scale=scale) for o in (even, uneven)]
        assert torch.allclose(*changes, rtol=1e-9, atol=1e-13) == (scale == "filter")
    worst = worst_case_sharpness(small, 0.2)
    assert worst_case_sharpness(large, 0.2) == pytest.approx(worst, rel=1e-12)


def test_the_worst_case_of_a_quadratic_loss_has_its_closed_form():
    objective = bowl([1.0, -2.0], [3.0, 0.5])  # gradient (3, -1), Hessian diag(3, 0.5)
    rho = 0.2 * math.sqrt(5)
    expected = rho * math.sqrt(10) + rho**2 / 2 * (3 * 9 + 0.5) / 10
    assert worst_case_sharpness(objective, 0.2) == pytest.approx(expected, rel=1e-13)
    assert worst_case_sharpness(bowl([0.0, 0.0], [1.0, 1.0]), 0.2) == 0.0


def test_the_batch_size_changes_nothing():
    whole, parts = make_objective(), make_objective(batch_size=8)
    assert torch.allclose(changes_of(whole), changes_of(parts), rtol=1e-10, atol=1e-13)
    worst = worst_case_sharpness(whole, 0.1, whole.gradient())
    assert worst_case_sharpness(parts, 0.1) == pytest.approx(worst, rel=1e-11)


@pytest.mark.parametrize("model", MODELS)
def test_every_network_is_sharp_to_some_degree(model):
    """So that the disturbed weights reach the loss, past whatever kernels are kept."""
    objective = configured_objective(model)
    before = Snapshot(objective.network)
    for scale in SCALES:
        changes = changes_of(objective, [0.0, 0.01], 2, scale=scale)
        assert not changes[..., 0].any() and changes[..., 1].all()
    random = changes_of(objective, [0.01 * norm(objective.weights())], 2).abs().max()
    assert worst_case_sharpness(objective, 0.01) > random
    before.assert_unchanged()


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        (([0.1, -0.1], []), {}, r"`radius` must be .* at least 0; got -0\.1"),
        (([math.nan], []), {}, r"`radius` must be .* got nan"),
        (([0.1], []), {"scale": "adaptive"}, "`scale` must be one of absolute, relative, filter"),
        (([0.1], [{"w": torch.zeros(2)}]), {}, r"a direction must .* for 'w'\. Take it from"),
    ],
)
def test_arguments_are_checked(arguments, options, match):
    with pytest.raises(ValueError, match=match):
        sharpness_along(bowl([1.0], [1.0]), *arguments, **options)
    with pytest.raises(ValueError, match="`radius` must be a number of at least 0; got -1"):
        worst_case_sharpness(bowl([1.0], [1.0]), -1)
