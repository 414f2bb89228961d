import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from src.measures.landscape import (
    loss_at,
    loss_on_line,
    loss_on_plane,
    plane_of_path,
    random_plane,
)
from src.measures.principal_components import principal_components
from tests.helpers.objectives import (
    MODELS,
    Snapshot,
    bowl,
    configured_objective,
    make_data,
    make_network,
    make_objective,
)

STATISTICS = [images.double() for images, _ in make_data(24, 8)]


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def assert_close(got, expected):
    assert torch.allclose(got, expected, rtol=1e-13, atol=1e-14)


def training_path(network, length=4):
    """Weights as a training would store them."""
    generator, path = torch.Generator().manual_seed(3), []
    for step in range(length):
        path.append({name: p.detach().clone() for name, p in network.named_parameters()})
        for w in path[-1].values():
            w.add_(0.2 * step * torch.randn(w.shape, generator=generator).to(w))
    return path


def slow_loss(weights, statistics, dtype=torch.float64):
    """The loss of a network that the weights are loaded into, with statistics taken by hand."""
    network = make_network(dtype)
    network.load_state_dict(network.state_dict() | weights)
    if statistics:
        maps = [network[0](images.to(dtype)) for images in statistics]
        network[1].running_mean.copy_(torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0))
        network[1].running_var.copy_(torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0))
    return make_objective(network, dtype=dtype).value()


def plane_along(path, resolution, margin=0.2):
    return plane_of_path(path, principal_components(path, path[0]), resolution, margin)


def points_of(*weights):
    return [{"w": double(w)} for w in weights]


BOWL = ([7.0, 7.0, 7.0], [1.0, 4.0, 2.0])
PATH = points_of([3.0, -1.0, 2.0], [1.0, 2.0, 2.0], [1.0, -1.0, 2.0])  # +2 and +3 along axes


def test_plane_and_line_of_a_quadratic_loss_have_their_closed_forms():
    seen, plane = [], plane_along(PATH, 5, 0.5)
    losses = loss_on_plane(bowl(*BOWL), plane, (), lambda points: seen.extend(points) or points)
    a, b = plane.a[:, None], plane.b[None]
    assert_close(plane.a, double([-1.5, 0.0, 1.5, 3.0, 4.5]))  # along axis 1
    assert_close(plane.b, double([-1.0, 0.0, 1.0, 2.0, 3.0]))  # along axis 0
    expected = (1 + b).square() / 2 + 4 * (-1 + a).square() / 2 + 2 * 2.0**2 / 2
    assert losses.shape == (5, 5)
    assert_close(losses, expected)
    assert torch.equal(double(seen), torch.cartesian_prod(plane.a, plane.b))
    line = loss_on_line(bowl(*BOWL), PATH[0], PATH[-1], 5)
    s = double([0.0, 0.25, 0.5, 0.75, 1.0])
    assert torch.equal(line.positions, s)
    assert_close(line.losses, (3 - 2 * s).square() / 2 + 2 + 4)
    assert loss_at(bowl(*BOWL), PATH[1]) == 0.5 + 8 + 4


@pytest.mark.parametrize("statistics", [(), STATISTICS])
def test_every_point_has_the_loss_of_a_network_with_its_weights_and_statistics(statistics):
    """Points of the path too; own weights do not matter, nor do statistics that are taken anew."""
    network = make_network()
    first, second, end = path = training_path(network, 3)
    for name in end:  # right angles, so that corners of the plane are points of the path
        (second if name.startswith("0") else first)[name].copy_(end[name])
    plane = plane_along(path, 2, margin=0.0)
    for w, point in zip(path, principal_components(path, end).coordinates):
        i, j = ((axis - p).abs().argmin() for axis, p in zip((plane.a, plane.b), point))
        assert_close(torch.stack([plane.a[i], plane.b[j]]), point)
        losses = loss_on_plane(make_objective(network), plane, statistics)
        assert losses[i, j].item() == pytest.approx(slow_loss(w, statistics), rel=1e-11)
    for parameter in network.parameters():
        parameter.data.fill_(math.nan)
    if statistics:
        network[1].running_mean.fill_(math.nan)
    before = deepcopy(network.state_dict())
    again = loss_on_plane(make_objective(network), plane, statistics)
    assert torch.equal(again, losses)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor.nan_to_num(7.0), before[name].nan_to_num(7.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_line_begins_and_ends_with_the_losses_of_the_two_networks(dtype):
    """Exactly, whatever the weights that the network has now, and in another memory layout."""
    network = make_network(dtype)
    start, *_, end = training_path(network)
    statistics = [images.to(dtype) for images in STATISTICS]
    objective = make_objective(network, dtype=dtype)
    losses = loss_on_line(objective, start, end, 3, statistics).losses
    expected = double([loss_at(objective, w, statistics) for w in (start, end)])
    assert torch.equal(losses[[0, -1]], expected)
    slow = double([slow_loss(w, STATISTICS, dtype) for w in (start, end)])
    assert torch.allclose(expected, slow, rtol=1e-5)
    assert abs(expected[0] - slow_loss(start, (), dtype)) > 1e-3  # with statistics of others
    network.to(memory_format=torch.channels_last)
    assert torch.allclose(loss_on_line(objective, start, end, 3, statistics).losses, losses)


def test_other_buffers_are_the_network_s_own():
    """Here one multiplies the output."""
    objective = bowl(*BOWL)
    objective.network.register_buffer("count", torch.tensor(3))
    objective.network.register_forward_hook(lambda module, _, y: module.count * y)
    plane = plane_along(PATH, 3)
    assert_close(loss_on_plane(objective, plane), 9 * loss_on_plane(bowl(*BOWL), plane))


def test_random_planes_are_filter_normalised_and_drawn_by_their_generator():
    network = make_network()
    weights = training_path(network, 2)[-1]
    first, other = (
        random_plane(network, weights, 3, 0.5, torch.Generator().manual_seed(seed))
        for seed in (0, 1)
    )
    again = random_plane(network, weights, 3, 0.5, torch.Generator().manual_seed(0))
    for name, w in weights.items():
        draws = [*first.directions, *other.directions]
        assert len({draw[name].sum().item() for draw in draws}) == 4
        for direction, same in zip(first.directions, again.directions):
            assert torch.equal(direction[name], same[name])
            filters = (direction[name], w) if w.ndim > 1 else (direction[name][None], w[None])
            assert_close(*(tensor.flatten(1).norm(dim=1) for tensor in filters))
    assert first.a.tolist() == first.b.tolist() == [-0.5, 0.0, 0.5]
    losses = loss_on_plane(make_objective(network), first, STATISTICS)
    d, e = first.directions
    corner = {name: w + 0.5 * d[name] - 0.5 * e[name] for name, w in weights.items()}
    assert losses[1, 1].item() == pytest.approx(slow_loss(weights, STATISTICS), rel=1e-12)
    assert losses[2, 0].item() == pytest.approx(slow_loss(corner, STATISTICS), rel=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_every_network_has_a_landscape_and_is_left_as_it_was(model):
    objective = configured_objective(model)
    path, before = training_path(objective.network, 3), Snapshot(objective.network)
    statistics = [inputs for inputs, _ in objective.data]
    losses = loss_on_plane(objective, plane_along(path, 2, margin=0.0), statistics)
    assert losses.isfinite().all()
    assert losses.unique().numel() == 4
    before.assert_unchanged()


@pytest.mark.parametrize("broken", ["statistics", "data"])
def test_a_network_is_left_as_it_was_when_a_point_fails(broken):
    network = make_network()
    objective, before = make_objective(network), Snapshot(network)
    momenta = [m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    statistics = [*STATISTICS, torch.ones(1, 2, 8, 8).double()] if broken == "statistics" else ()
    if broken == "data":
        objective.data.append((torch.ones(1, 2, 8, 8).double(), torch.tensor([0])))
    with pytest.raises(RuntimeError, match="channels"):
        loss_at(objective, training_path(network, 2)[-1], statistics)
    before.assert_unchanged()
    assert [m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)] == momenta


@pytest.mark.parametrize(
    ("path", "options", "match"),
    [
        (PATH[1:], {}, r"not straight; got 2 points on a line\. Store"),
        (PATH, {"resolution": 1}, "`resolution` must be an integer of at least 2"),
        (PATH, {"margin": -0.1}, r"`margin` must .* at least 0; got -0\.1\. Use 0\.2"),
        (PATH, {"margin": math.nan}, "`margin` must be a number"),
    ],
)
def test_planes_check_their_arguments(path, options, match):
    with pytest.raises(ValueError, match=match):
        plane_along(path, **{"resolution": 3, **options})


def test_other_arguments_are_checked():
    objective, short, end = bowl(*BOWL), {"w": torch.zeros(2)}, PATH[-1]
    for ends in ((short, end), (end, short)):
        with pytest.raises(ValueError, match=r"weights at an end .* got \[2\] in place of"):
            loss_on_line(objective, *ends, 3)
    with pytest.raises(ValueError, match="`num_points` must be an integer of at least 2"):
        loss_on_line(objective, end, end, 1)
    with pytest.raises(ValueError, match=r"weights must have .* no tensor .* for 'w'"):
        loss_at(objective, {"v": end["w"]})
    for options, name in (((1, 1.0), "resolution"), ((3, -1.0), "radius")):
        with pytest.raises(ValueError, match=f"`{name}` must"):
            random_plane(objective.network, end, *options, torch.Generator())
