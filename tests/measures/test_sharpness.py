import math

import pytest
import torch
from torch import nn

from src.measures import Objective
from src.measures.directions import norm, random_directions
from src.measures.sharpness import sharpness_along, worst_case_sharpness
from tests.helpers.objectives import (
    MODELS,
    Snapshot,
    bowl,
    configured_objective,
    make_network,
    make_objective,
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
    for d, changes in zip(directions, result.changes):
        change, t = x @ d["weight"].mT + d["bias"], torch.tensor(RADII, dtype=torch.float64)
        expected = 2 * t * (residuals * change).mean() + t**2 * change.square().mean()
        assert (changes - expected).abs().max() < 1e-14
    sizes = result.changes.abs()
    assert result.value == pytest.approx(sizes.mean().item())
    assert result.values_per_radius.tolist() == pytest.approx(sizes.mean(0).tolist())
    assert result.standard_error == pytest.approx(sizes.mean(1).std().item() / 2, rel=1e-6)
    expected = (sizes.std(0) / 2).tolist()
    assert result.standard_errors_per_radius.tolist() == pytest.approx(expected)
    alone = sharpness_along(objective, [0.1], directions[:1])
    assert math.isnan(alone.standard_error) and alone.standard_errors_per_radius.isnan().all()


def test_the_mean_over_directions_is_the_trace_of_the_hessian_over_the_dimension():
    """E[d.H d] = tr(H) / P: within 4 standard errors; a round bowl gives t^2 / 2 always."""
    objective = bowl([0.0] * 4, [1.0, 2.0, 3.0, 14.0])
    result = sharpness_along(objective, [0.5], draw(objective, 500))
    assert abs(result.value - 0.5**2 / 2 * 20 / 4) < 4 * result.standard_error < 4 * 0.03
    expected = torch.tensor([t**2 / 2 for t in RADII], dtype=torch.float64).expand(3, 3)
    assert torch.allclose(changes_of(bowl([0.0] * 3, [1.0] * 3)), expected, rtol=1e-14, atol=0)


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
    got = changes_of(objective, [0.3], 1, scale=scale)
    assert got.item() == pytest.approx(expected, rel=1e-12)


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
    worst = worst_case_sharpness(whole, 0.1)
    assert worst_case_sharpness(parts, 0.1) == pytest.approx(worst, rel=1e-11)


@pytest.mark.parametrize("model", MODELS)
def test_every_network_is_sharp_to_some_degree(model):
    """So that the disturbed weights reach the loss, past whatever kernels are kept."""
    objective = configured_objective(model)
    before = Snapshot(objective.network)
    for scale in SCALES:
        changes = changes_of(objective, [0.0, 0.01], 2, scale=scale)
        assert not changes[:, 0].any() and changes[:, 1].all()
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
