import math

import pytest
import torch
from torch import nn

from src.measures import Objective
from src.measures.directions import norm, random_directions
from src.measures.sharpness import (
    SharpnessResult,
    sharpness,
    sharpness_along,
    worst_case_sharpness,
)
from tests.helpers.objectives import (
    MODELS,
    Snapshot,
    bowl,
    configured_objective,
    make_data,
    make_network,
    make_objective,
)

RADII = (0.0, 0.1, 0.5)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(objective, number, seed=0):
    return list(random_directions(objective.weights(), number, generator(seed)))


def regression(samples=7):
    """A linear model with squared errors: a quadratic loss."""
    torch.manual_seed(0)
    data = [(torch.randn(samples, 3).double(), torch.randn(samples, 2).double())]
    return Objective(nn.Linear(3, 2).double(), nn.MSELoss(), data)


def exact_change(objective, direction, radius):
    """t g.d + t^2 d.H d / 2 of `regression`, from the change of its residuals."""
    [(x, y)] = objective.data
    residuals = objective.network(x).detach() - y
    change = x @ direction["weight"].mT + direction["bias"]
    return 2 * radius * (residuals * change).mean() + radius**2 * change.square().mean()


def test_a_quadratic_loss_has_its_closed_form():
    objective = regression()
    directions = draw(objective, 4)
    result = sharpness_along(objective, RADII, directions)
    expected = torch.stack(
        [torch.stack([exact_change(objective, d, t) for t in RADII]) for d in directions]
    )
    assert result.radii == RADII
    assert (result.changes - expected).abs().max() < 1e-14
    assert result.value == pytest.approx(expected.abs().mean().item(), rel=1e-13)


def test_means_and_standard_errors():
    result = SharpnessResult((0.1, 0.2), torch.tensor([[1.0, -3.0], [-2.0, 4.0], [3.0, 8.0]]))
    assert result.value == pytest.approx(21 / 6)
    assert result.values_per_radius.tolist() == [2.0, 5.0]
    per_direction = torch.tensor([2.0, 3.0, 5.5])
    assert result.standard_error == pytest.approx(per_direction.std().item() / math.sqrt(3))
    expected = torch.tensor([1.0, math.sqrt(7)]) / math.sqrt(3)
    assert torch.allclose(result.standard_errors_per_radius, expected)


def test_a_single_direction_has_no_standard_error():
    result = SharpnessResult((0.1,), torch.tensor([[1.0]]))
    assert result.value == 1.0
    assert math.isnan(result.standard_error)
    assert result.standard_errors_per_radius.isnan().all()


def test_at_the_bottom_of_a_round_bowl_every_direction_gives_half_the_square():
    objective = bowl([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
    result = sharpness(objective, RADII, num_directions=5, generator=generator())
    expected = torch.tensor([t**2 / 2 for t in RADII], dtype=torch.float64).expand(5, 3)
    assert torch.allclose(result.changes, expected, rtol=1e-14, atol=0)
    assert result.standard_error < 1e-15


def test_the_mean_over_directions_is_the_trace_of_the_hessian_over_the_dimension():
    """E[d.H d] = tr(H) / P: within 4 standard errors."""
    objective = bowl([0.0] * 4, [1.0, 2.0, 3.0, 14.0])
    result = sharpness(objective, [0.5], num_directions=500, generator=generator())
    assert abs(result.value - 0.5**2 / 2 * 20 / 4) < 4 * result.standard_error
    assert result.standard_error < 0.03


@pytest.mark.parametrize("scale", ["absolute", "relative", "filter"])
def test_a_radius_of_zero_changes_nothing_whatever_batch_norm_and_dropout_do(scale):
    for dtype in (torch.float32, torch.float64):
        network = make_network(dtype).to(memory_format=torch.channels_last)
        assert network.training
        objective = make_objective(network, dtype=dtype, batch_size=4)
        result = sharpness(objective, [0.0], generator=generator(), scale=scale)
        assert torch.equal(result.changes, torch.zeros(10, 1).double())


def test_a_radius_of_zero_is_no_change_in_the_worst_case_either():
    assert worst_case_sharpness(make_objective(), 0.0) == 0


@pytest.mark.parametrize("scale", ["absolute", "relative", "filter"])
def test_signs_and_sizes_of_changes_are_those_of_a_moved_copy(scale):
    """Against a network whose weights are moved by hand."""
    objective = make_objective()
    weights = objective.weights()
    direction = draw(objective, 1)[0]
    moved = make_network()
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            d, w = direction[name], weights[name]
            if scale == "relative":
                d = d * norm(weights)
            if scale == "filter" and w.ndim > 1:
                d = torch.stack([v * w.norm() / v.norm() for v, w in zip(d, w)])
            elif scale == "filter":
                d = d * w.norm() / d.norm()
            parameter.add_(0.3 * d)
    expected = make_objective(moved).value() - objective.value()
    result = sharpness_along(objective, [0.3], [direction], scale=scale)
    assert result.changes.item() == pytest.approx(expected, rel=1e-12)


ORDER = torch.tensor([2, 0, 3, 1])  # of the four channels between the two convolutions
AXES = {"0.weight": 0, "1.weight": 0, "1.bias": 0, "3.weight": 1}
AXES |= {"1.running_mean": 0, "1.running_var": 0}


def permuted(tensors):
    """With the channels in another order: the same function."""
    return {
        name: tensor.index_select(AXES[name], ORDER) if name in AXES else tensor
        for name, tensor in tensors.items()
    }


def make_twin(network):
    twin = make_network()
    twin.load_state_dict(permuted(network.state_dict()))
    return twin


@pytest.mark.parametrize("scale", ["absolute", "relative", "filter"])
def test_the_order_of_channels_does_not_matter(scale):
    objective = make_objective()
    twin = make_objective(make_twin(objective.network))
    assert twin.value() == pytest.approx(objective.value(), rel=1e-13)
    directions = draw(objective, 3)
    one = sharpness_along(objective, RADII, directions, scale=scale)
    other = sharpness_along(twin, RADII, map(permuted, directions), scale=scale)
    unmatched = sharpness_along(twin, RADII, directions, scale=scale)
    assert torch.allclose(one.changes, other.changes, rtol=1e-10, atol=1e-13)
    assert not torch.allclose(one.changes, unmatched.changes, rtol=1e-3)


@pytest.mark.parametrize("scale", ["absolute", "relative"])
def test_the_order_of_channels_does_not_matter_in_the_worst_case(scale):
    objective = make_objective()
    twin = make_objective(make_twin(objective.network))
    one, other = (worst_case_sharpness(o, 0.2, scale=scale) for o in (objective, twin))
    assert one == pytest.approx(other, rel=1e-10)
    assert one > 0.05


def test_relative_radii_are_in_units_of_the_norm_of_the_weights():
    objective = make_objective()
    length = norm(objective.weights())
    assert not 0.5 < length < 1.5
    directions = draw(objective, 3)
    relative = sharpness_along(objective, RADII, directions, scale="relative")
    absolute = sharpness_along(objective, [t * length for t in RADII], directions)
    assert torch.allclose(relative.changes, absolute.changes, rtol=1e-11, atol=1e-13)
    worst = worst_case_sharpness(objective, 0.2, scale="relative")
    assert worst == pytest.approx(worst_case_sharpness(objective, 0.2 * length), rel=1e-11)


def test_relative_sharpness_does_not_see_the_unit_of_the_weights():
    """L = sum of c w^2 / 2: weights ten times as large with curvatures of a hundredth."""
    one = bowl([1.0, -2.0, 3.0], [1.0, 2.0, 3.0])
    other = bowl([10.0, -20.0, 30.0], [0.01, 0.02, 0.03])
    for scale, equal in (("relative", True), ("absolute", False)):
        results = [sharpness(o, RADII, generator=generator(), scale=scale) for o in (one, other)]
        changes = [result.changes for result in results]
        assert torch.allclose(*changes, rtol=1e-12, atol=1e-15) == equal
        worst = [worst_case_sharpness(o, 0.2, scale=scale) for o in (one, other)]
        assert (worst[0] == pytest.approx(worst[1], rel=1e-12)) == equal


def rescaled_network(factors):
    """Filters times factors, which the batch norm after them divides out again."""
    network = make_network()
    network[1].eps = 0.0
    with torch.no_grad():
        network[0].weight.mul_(factors[:, None, None, None])
        network[1].running_mean.mul_(factors)
        network[1].running_var.mul_(factors.square())
    return network


def test_filter_normalised_sharpness_does_not_see_the_scale_of_filters():
    factors = torch.tensor([0.1, 1.0, 5.0, 30.0]).double()
    objective = make_objective(rescaled_network(torch.ones(4).double()))
    rescaled = make_objective(rescaled_network(factors))
    assert rescaled.value() == pytest.approx(objective.value(), rel=1e-12)
    for scale, equal in (("filter", True), ("absolute", False), ("relative", False)):
        results = [
            sharpness(o, RADII, generator=generator(), scale=scale) for o in (objective, rescaled)
        ]
        changes = [result.changes for result in results]
        assert torch.allclose(*changes, rtol=1e-9, atol=1e-13) == equal


def test_the_worst_case_of_a_quadratic_loss_has_its_closed_form():
    objective = bowl([1.0, -2.0], [3.0, 0.5])  # gradient (3, -1), Hessian diag(3, 0.5)
    expected = 0.2 * math.sqrt(10) + 0.2**2 / 2 * (3 * 9 + 0.5) / 10
    assert worst_case_sharpness(objective, 0.2) == pytest.approx(expected, rel=1e-13)


def test_the_worst_case_exceeds_random_directions():
    objective = make_objective()
    random = sharpness(objective, [0.05], num_directions=50, generator=generator())
    assert worst_case_sharpness(objective, 0.05) > random.changes.abs().max()


def test_without_a_gradient_the_worst_case_is_zero():
    assert worst_case_sharpness(bowl([0.0, 0.0], [1.0, 1.0]), 0.2) == 0.0


@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_the_batch_size_changes_nothing(batch_size):
    whole, parts = make_objective(), make_objective(batch_size=batch_size)
    results = [sharpness(o, RADII, generator=generator()) for o in (whole, parts)]
    assert torch.allclose(results[0].changes, results[1].changes, rtol=1e-10, atol=1e-13)
    worst = [worst_case_sharpness(o, 0.1) for o in (whole, parts)]
    assert worst[0] == pytest.approx(worst[1], rel=1e-11)


def test_float32_agrees_with_float64():
    """The directions are the same; only the network rounds."""
    single = Objective(
        make_network(torch.float32), nn.CrossEntropyLoss(), make_data(dtype=torch.float32)
    )
    double = make_objective(make_network(torch.float32).double())
    results = [sharpness(o, [0.1, 0.5], generator=generator()) for o in (single, double)]
    assert (results[0].changes - results[1].changes).abs().max() < 1e-5


@pytest.mark.parametrize("scale", ["absolute", "relative", "filter"])
def test_nothing_changes_in_the_network(scale):
    objective = make_objective()
    objective.network[3].eval()
    before = Snapshot(objective.network)
    sharpness(objective, RADII, num_directions=2, generator=generator(), scale=scale)
    if scale != "filter":
        worst_case_sharpness(objective, 0.1, scale=scale)
    before.assert_unchanged()


@pytest.mark.parametrize("model", MODELS)
def test_every_network_is_sharp_to_some_degree(model):
    """So that the disturbed weights reach the loss, past whatever kernels are kept."""
    objective = configured_objective(model)
    before = Snapshot(objective.network)
    for scale in ("absolute", "relative", "filter"):
        result = sharpness(
            objective, [0.0, 0.01], num_directions=2, generator=generator(), scale=scale
        )
        assert (result.changes[:, 0] == 0).all()
        assert (result.changes[:, 1] != 0).all()
        assert result.changes.isfinite().all()
    assert worst_case_sharpness(objective, 1e-3) > 0
    before.assert_unchanged()


@pytest.mark.parametrize("radius", [-0.1, math.nan, math.inf])
def test_radii_must_be_distances(radius):
    objective = bowl([1.0], [1.0])
    message = rf"at least 0; got {radius}\. Use for example 0\.1"
    with pytest.raises(ValueError, match=message):
        sharpness(objective, [0.1, radius], generator=generator())
    with pytest.raises(ValueError, match=message):
        worst_case_sharpness(objective, radius)


@pytest.mark.parametrize("number", [0, -1, 2.5])
def test_there_must_be_a_number_of_directions(number):
    with pytest.raises(ValueError, match="`num_directions` must be an integer of at least 1"):
        sharpness(bowl([1.0], [1.0]), [0.1], num_directions=number, generator=generator())


def test_there_must_be_a_direction_and_a_radius():
    objective = bowl([1.0], [1.0])
    with pytest.raises(ValueError, match=r"got 0 directions and the radii \[0\.1\]\. Use"):
        sharpness_along(objective, [0.1], [])
    with pytest.raises(ValueError, match=r"got 10 directions and the radii \[\]\. Use"):
        sharpness(objective, [], generator=generator())


def test_scales_must_be_known():
    objective = bowl([1.0], [1.0])
    with pytest.raises(ValueError, match="`scale` must be one of absolute, relative, filter"):
        sharpness(objective, [0.1], generator=generator(), scale="adaptive")
    with pytest.raises(ValueError, match="`scale` must be one of absolute, relative; got 'filter'"):
        worst_case_sharpness(objective, 0.1, scale="filter")


def test_directions_must_fit_the_network():
    with pytest.raises(ValueError, match=r"a direction must .* for 'w'\. Take it from"):
        sharpness_along(bowl([1.0], [1.0]), [0.1], [{"w": torch.zeros(2)}])


def test_a_trainable_parameter_is_needed():
    network = make_network().requires_grad_(False)
    with pytest.raises(ValueError, match="needs a parameter that is trained"):
        sharpness(make_objective(network), [0.1], generator=generator())
