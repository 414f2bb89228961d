import math
from copy import deepcopy

import pytest
import torch

from src.measures.landscape import loss_on_line, loss_on_plane
from tests.helpers.objectives import (
    MODELS,
    Snapshot,
    bowl,
    configured_objective,
    make_network,
    make_objective,
)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def assert_close(got, expected):
    assert torch.allclose(got, expected, rtol=1e-13, atol=1e-14)


def training_path(network, length=4):
    """States as a training would store them: weights and running statistics move, counts grow."""
    generator, path = torch.Generator().manual_seed(3), []
    for step in range(length):
        path.append(deepcopy(network.state_dict()))
        for name, tensor in path[-1].items():
            if name.endswith("running_var"):
                tensor.mul_(1 + step)
            elif tensor.is_floating_point():
                tensor.add_(0.2 * step * torch.randn(tensor.shape, generator=generator).to(tensor))
            else:
                tensor.fill_(step)
    return path


def stored_loss(state, dtype=torch.float64):
    """The loss of a network that the state is loaded into."""
    network = make_network(dtype)
    network.load_state_dict(state)
    return make_objective(network, dtype=dtype).value()


def points_of(*weights):
    return [{"w": double(w)} for w in weights]


BOWL = ([7.0, 7.0, 7.0], [1.0, 4.0, 2.0])
PATH = points_of([3.0, -1.0, 2.0], [1.0, 2.0, 2.0], [1.0, -1.0, 2.0])  # +2 and +3 along axes


def test_plane_and_line_of_a_quadratic_loss_have_their_closed_forms():
    """Of a point off the plane the loss is its own."""
    seen = []
    result = loss_on_plane(bowl(*BOWL), PATH, 5, 0.5, lambda points: seen.extend(points) or points)
    a, b = result.a[:, None], result.b[None]
    assert_close(result.a, double([-1.5, 0.0, 1.5, 3.0, 4.5]))  # along axis 1
    assert_close(result.b, double([-1.0, 0.0, 1.0, 2.0, 3.0]))  # along axis 0
    expected = (1 + b).square() / 2 + 4 * (-1 + a).square() / 2 + 2 * 2.0**2 / 2
    assert result.losses.shape == (5, 5)
    assert_close(result.losses, expected)
    assert_close(result.path_losses, double([10.5, 12.5, 6.5]))
    assert result.components.distances.max() < 1e-14
    assert torch.equal(double(seen), torch.cartesian_prod(result.a, result.b))
    line = loss_on_line(bowl(*BOWL), PATH[0], PATH[-1], 5)
    s = double([0.0, 0.25, 0.5, 0.75, 1.0])
    assert torch.equal(line.positions, s)
    assert_close(line.losses, (3 - 2 * s).square() / 2 + 2 + 4)
    path = [*PATH[:1], *points_of([2.0, 0.0, 1.0]), *PATH[1:]]
    result = loss_on_plane(bowl(*BOWL), path, 2)
    assert result.components.distances[1] > 0.5
    losses = [bowl(state["w"].tolist(), BOWL[1]).value() for state in path]
    assert_close(result.path_losses, double(losses))


def test_points_of_the_path_have_their_losses_on_the_plane():
    """Three points are always in a plane, with all their buffers; no margin: corners are points."""
    network = make_network()
    first, second, end = training_path(network, 3)
    for name, _ in network.named_parameters():  # right angles: the coordinates of a rectangle
        (second if name.startswith("0") else first)[name].copy_(end[name])
    result = loss_on_plane(make_objective(network), [first, second, end], 2, margin=0.0)
    losses = [stored_loss(state) for state in (first, second, end)]
    assert result.path_losses.tolist() == losses
    for point, loss in zip(result.components.coordinates, losses):
        i, j = ((axis - p).abs().argmin() for axis, p in zip((result.a, result.b), point))
        assert_close(torch.stack([result.a[i], result.b[j]]), point)
        assert result.losses[i, j] == pytest.approx(loss, rel=1e-12)
    path = training_path(network, 3)
    far = loss_on_plane(make_objective(network), path, 3, margin=20.0)
    assert far.losses.isfinite().all()  # variances stay positive where they are extrapolated
    for state, copy in zip(path, training_path(network, 3)):
        assert all(torch.equal(state[name], copy[name]) for name in copy)
    for parameter in network.parameters():  # the network's own weights do not matter
        parameter.data.add_(1.0)
    again = loss_on_plane(make_objective(network), path, 3, margin=20.0)
    assert torch.equal(again.losses, far.losses)


def test_integer_buffers_are_those_of_the_end():
    """Here a buffer multiplies the output."""
    objective, uncounted = bowl(*BOWL), bowl(*BOWL)
    objective.network.register_buffer("count", torch.tensor(7))
    objective.network.register_forward_hook(lambda module, _, y: module.count * y)
    path = [{**state, "count": torch.tensor(count)} for state, count in zip(PATH, (2, 1, 3))]
    plane, expected = loss_on_plane(objective, path, 3), loss_on_plane(uncounted, PATH, 3)
    assert_close(plane.losses, 9 * expected.losses)
    assert_close(plane.path_losses, double([4.0, 1.0, 9.0]) * expected.path_losses)
    line = loss_on_line(objective, path[0], path[-1], 3)
    assert_close(line.losses, 9 * loss_on_line(uncounted, PATH[0], PATH[-1], 3).losses)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_line_begins_and_ends_with_the_losses_of_the_stored_networks(dtype):
    """Whatever the weights that the network has now, and its memory layout."""
    network = make_network(dtype)
    start, *_, end = training_path(network)
    mixed = start | {name: tensor for name, tensor in end.items() if "running" in name}
    losses = loss_on_line(make_objective(network, dtype=dtype), start, end, 3).losses
    assert losses[[0, -1]].tolist() == [stored_loss(start, dtype), stored_loss(end, dtype)]
    assert abs(losses[0] - stored_loss(mixed, dtype)) > 1e-3  # with the end's statistics
    network.to(memory_format=torch.channels_last)
    other = loss_on_line(make_objective(network, dtype=dtype), start, end, 3).losses
    assert torch.allclose(losses, other, rtol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_every_network_has_a_landscape(model):
    objective = configured_objective(model)
    path, before = training_path(objective.network, 3), Snapshot(objective.network)
    plane = loss_on_plane(objective, path, resolution=2, margin=0.0)
    line = loss_on_line(objective, path[0], path[-1], 2)
    assert plane.losses.isfinite().all()
    assert plane.losses.unique().numel() == 4
    assert line.losses.tolist() == plane.path_losses[[0, -1]].tolist()
    before.assert_unchanged()


@pytest.mark.parametrize(
    ("path", "options", "match"),
    [
        (PATH[1:], {}, r"not straight; got 2 points on a line\. Store"),
        (PATH[:1], {}, "must have at least two points; got 1"),
        ([PATH[0]] * 3, {}, "must not all be equal"),
        ([*PATH[:2], {"v": PATH[2]["w"]}], {}, r"a state of the path must .* no tensor .* for 'w'"),
        (PATH, {"resolution": 1}, "`resolution` must be an integer of at least 2"),
        (PATH, {"margin": -0.1}, r"`margin` must .* at least 0; got -0\.1\. Use 0\.2"),
        (PATH, {"margin": math.nan}, "`margin` must be a number"),
    ],
)
def test_arguments_are_checked(path, options, match):
    with pytest.raises(ValueError, match=match):
        loss_on_plane(bowl(*BOWL), path, **{"resolution": 3, **options})
    short, end = {"w": torch.zeros(2)}, PATH[-1]
    for ends in ((short, end), (end, short)):
        with pytest.raises(ValueError, match=r"a state on the line must .* got \[2\] in place of"):
            loss_on_line(bowl(*BOWL), *ends, 3)
    with pytest.raises(ValueError, match="`num_points` must be an integer of at least 2"):
        loss_on_line(bowl(*BOWL), end, end, 1)
