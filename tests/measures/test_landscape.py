import math

import pytest
import torch

from src.measures import Objective
from src.measures.landscape import loss_on_line, loss_on_plane
from tests.helpers.objectives import (
    MODELS,
    Point,
    Snapshot,
    WeightedSquares,
    bowl,
    configured_objective,
    make_network,
    make_objective,
)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def assert_close(got, expected):
    assert torch.allclose(got, expected, rtol=1e-13, atol=1e-14)


def copied(state):
    return {name: tensor.clone() for name, tensor in state.items()}


def training_path(network, length=4, seed=3):
    """States as a training would store them: weights and running statistics move, counts grow."""
    generator = torch.Generator().manual_seed(seed)
    path = []
    for step in range(length):
        state = copied(network.state_dict())
        for name, tensor in state.items():
            if name.endswith("running_var"):
                tensor.mul_(1 + step)
            elif tensor.is_floating_point():
                tensor.add_(0.2 * step * torch.randn(tensor.shape, generator=generator).to(tensor))
            else:
                tensor.fill_(step)
        path.append(state)
    return path


def stored_loss(state):
    """The loss of a network that the state is loaded into."""
    network = make_network()
    network.load_state_dict(state)
    return make_objective(network).value()


def points_of(*weights):
    return [{"w": double(w)} for w in weights]


BOWL = ([7.0, 7.0, 7.0], [1.0, 4.0, 2.0])
PATH = points_of([3.0, -1.0, 2.0], [1.0, 2.0, 2.0], [1.0, -1.0, 2.0])  # +2 and +3 along axes


def test_the_plane_of_a_quadratic_loss_has_its_closed_form():
    result = loss_on_plane(bowl(*BOWL), PATH, resolution=5, margin=0.5)
    a, b = result.a[:, None], result.b[None]
    assert_close(result.a, double([-1.5, 0.0, 1.5, 3.0, 4.5]))  # along axis 1
    assert_close(result.b, double([-1.0, 0.0, 1.0, 2.0, 3.0]))  # along axis 0
    expected = (1 + b).square() / 2 + 4 * (-1 + a).square() / 2 + 2 * 2.0**2 / 2
    assert result.losses.shape == (5, 5)
    assert_close(result.losses, expected)
    assert_close(result.path_losses, double([10.5, 12.5, 6.5]))
    assert result.components.distances.max() < 1e-14


def test_the_loss_of_a_point_off_the_plane_is_its_own():
    path = [*points_of([3.0, -1.0, 2.5], [1.0, 2.0, 2.0]), PATH[-1]]
    path.insert(1, {"w": double([2.0, 0.0, 1.0])})
    result = loss_on_plane(bowl(*BOWL), path, resolution=2)
    losses = [bowl(state["w"].tolist(), BOWL[1]).value() for state in path]
    assert_close(result.path_losses, double(losses))
    assert result.components.distances[1] > 0.5
    assert result.components.explained_variance.sum() < 0.95


def test_the_plane_covers_the_path_and_the_margin():
    network = make_network()
    result = loss_on_plane(make_objective(network), training_path(network), resolution=3)
    for positions, coordinates in zip((result.a, result.b), result.components.coordinates.mT):
        low, high = coordinates.min(), coordinates.max()
        assert positions[0] == pytest.approx((low - 0.2 * (high - low)).item())
        assert positions[-1] == pytest.approx((high + 0.2 * (high - low)).item())


def test_points_of_the_path_have_their_losses_on_the_plane():
    """Three points are always in a plane, with all their buffers; no margin: corners are points."""
    network = make_network()
    first, second, end = training_path(network, 3)
    weights = [name for name, _ in network.named_parameters()]
    for name in weights:  # right angles, so that the coordinates are those of a rectangle
        keep = name.startswith("0")
        (second if keep else first)[name].copy_(end[name])
    result = loss_on_plane(make_objective(network), [first, second, end], resolution=2, margin=0.0)
    losses = double([stored_loss(state) for state in (first, second, end)])
    assert torch.equal(result.path_losses, losses)
    coordinates = result.components.coordinates
    for point, loss in zip(coordinates, losses):
        i = (result.a - point[0]).abs().argmin()
        j = (result.b - point[1]).abs().argmin()
        assert (result.a[i] - point[0]).abs() < 1e-12
        assert (result.b[j] - point[1]).abs() < 1e-12
        assert result.losses[i, j] == pytest.approx(loss.item(), rel=1e-12)


def test_variances_stay_positive_where_they_are_extrapolated():
    network = make_network()
    path = training_path(network, 3)
    result = loss_on_plane(make_objective(network), path, resolution=3, margin=20.0)
    assert result.losses.isfinite().all()


def test_buffers_move_along():
    """Running statistics of the end would give other losses away from it."""
    network = make_network()
    path = training_path(network, 3)
    still = [copied(state) for state in path]
    for state in still:
        state.update({n: t for n, t in path[-1].items() if "running" in n})
    moving, fixed = (loss_on_plane(make_objective(network), p, resolution=2) for p in (path, still))
    assert torch.equal(moving.a, fixed.a)  # the plane is that of the weights alone
    assert not torch.allclose(moving.losses, fixed.losses, rtol=1e-2)


class Counted(Point):
    """A `Point` whose output is multiplied by an integer buffer."""

    def __init__(self, *weights, count):
        super().__init__(*weights)
        self.register_buffer("count", torch.tensor(count))

    def forward(self, x):
        return self.count * super().forward(x)


def test_integer_buffers_are_those_of_the_end():
    network = Counted(*BOWL[0], count=7)
    objective = Objective(network, WeightedSquares(*BOWL[1]), bowl(*BOWL).data)
    path = [{**state, "count": torch.tensor(count)} for state, count in zip(PATH, (2, 1, 3))]
    pairs = ((objective, path), (bowl(*BOWL), PATH))
    plane, uncounted = (loss_on_plane(o, states, resolution=3) for o, states in pairs)
    assert_close(plane.losses, 9 * uncounted.losses)
    assert_close(plane.path_losses, double([4.0, 1.0, 9.0]) * uncounted.path_losses)
    line, uncounted = (loss_on_line(o, states[0], states[-1], 3) for o, states in pairs)
    assert_close(line.losses, 9 * uncounted.losses)


def test_the_line_of_a_quadratic_loss_has_its_closed_form():
    start, _, end = PATH
    result = loss_on_line(bowl(*BOWL), start, end, 5)
    s = double([0.0, 0.25, 0.5, 0.75, 1.0])
    assert torch.equal(result.positions, s)
    assert_close(result.losses, (3 - 2 * s).square() / 2 + 2 + 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_line_begins_and_ends_with_the_losses_of_the_stored_networks(dtype):
    network = make_network(dtype)
    start, *_, end = training_path(network)
    objective = make_objective(network, dtype=dtype)
    losses = loss_on_line(objective, start, end, 3).losses
    for state, loss in ((start, losses[0]), (end, losses[-1])):
        network.load_state_dict(state)
        assert loss == objective.value()
    mixed = {**start, **{name: tensor for name, tensor in end.items() if "running" in name}}
    network.load_state_dict(mixed)
    assert abs(losses[0] - objective.value()) > 1e-3  # what the end's statistics would give


def test_the_line_ends_exactly_however_far_away_it_begins():
    start, end = points_of([1e9 / 3] * 3, [0.1, 0.2, 0.3])
    losses = loss_on_line(bowl(*BOWL), start, end, 4).losses
    expected = [bowl(state["w"].tolist(), BOWL[1]).value() for state in (start, end)]
    assert losses[[0, -1]].tolist() == expected


def test_states_may_have_another_memory_layout():
    network = make_network(torch.float32)
    start, *_, end = training_path(network)
    losses = loss_on_line(make_objective(network, dtype=torch.float32), start, end, 3).losses
    network.to(memory_format=torch.channels_last)
    other = loss_on_line(make_objective(network, dtype=torch.float32), start, end, 3).losses
    assert torch.allclose(losses, other, rtol=1e-5)


def test_progress_sees_every_point_of_the_plane():
    seen = []

    def progress(points):
        for point in points:
            seen.append(point)
            yield point

    result = loss_on_plane(bowl(*BOWL), PATH, resolution=3, progress=progress)
    assert torch.equal(double(seen), torch.cartesian_prod(result.a, result.b))


def test_nothing_changes_in_the_network_and_its_weights_do_not_matter():
    network = make_network()
    path = training_path(network)
    stored = [copied(state) for state in path]
    before = Snapshot(network)
    plane = loss_on_plane(make_objective(network), path, resolution=3)
    line = loss_on_line(make_objective(network), path[0], path[-1], 3)
    before.assert_unchanged()
    for state, copy in zip(path, stored):
        assert all(torch.equal(state[name], copy[name]) for name in copy)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    again = loss_on_plane(make_objective(network), path, resolution=3)
    assert torch.equal(again.losses, plane.losses)
    assert torch.equal(loss_on_line(make_objective(network), path[0], path[-1], 3)[1], line[1])


@pytest.mark.parametrize("model", MODELS)
def test_every_network_has_a_landscape(model):
    objective = configured_objective(model)
    path = training_path(objective.network, 3)
    before = Snapshot(objective.network)
    plane = loss_on_plane(objective, path, resolution=2, margin=0.0)
    line = loss_on_line(objective, path[0], path[-1], 2)
    assert plane.losses.isfinite().all()
    assert plane.losses.unique().numel() == 4
    assert line.losses.tolist() == [plane.path_losses[0], plane.path_losses[-1]]
    before.assert_unchanged()


@pytest.mark.parametrize("path", [PATH[1:], points_of([0.0] * 3, [1.0] * 3, [3.0] * 3)])
def test_a_straight_path_has_no_plane(path):
    with pytest.raises(ValueError, match=rf"not straight; got {len(path)} points on a line\. St"):
        loss_on_plane(bowl(*BOWL), path, resolution=3)


def test_a_plane_needs_a_path():
    with pytest.raises(ValueError, match="must have at least two points; got 1"):
        loss_on_plane(bowl(*BOWL), PATH[:1], resolution=3)
    with pytest.raises(ValueError, match="must not all be equal"):
        loss_on_plane(bowl(*BOWL), [PATH[0]] * 3, resolution=3)


def test_states_must_fit_the_network():
    wrong = [*PATH[:2], {"v": PATH[2]["w"]}]
    with pytest.raises(ValueError, match=r"a state of the path must .* got no tensor .* for 'w'"):
        loss_on_plane(bowl(*BOWL), wrong, resolution=3)
    short = {"w": torch.zeros(2)}
    with pytest.raises(
        ValueError, match=r"a state on the line must .* got \[2\] in place of \[3\]"
    ):
        loss_on_line(bowl(*BOWL), short, PATH[-1], 3)
    with pytest.raises(
        ValueError, match=r"a state on the line must .* got \[2\] in place of \[3\]"
    ):
        loss_on_line(bowl(*BOWL), PATH[-1], short, 3)


def test_buffers_are_part_of_a_state():
    network = make_network()
    path = training_path(network)
    del path[1]["1.running_mean"]
    with pytest.raises(ValueError, match=r"no tensor in place of .* for '1.running_mean'"):
        loss_on_plane(make_objective(network), path, resolution=3)


@pytest.mark.parametrize("resolution", [1, 0, 2.5])
def test_the_resolution_is_a_number_of_points(resolution):
    with pytest.raises(ValueError, match="`resolution` must be an integer of at least 2"):
        loss_on_plane(bowl(*BOWL), PATH, resolution=resolution)
    with pytest.raises(ValueError, match="`num_points` must be an integer of at least 2"):
        loss_on_line(bowl(*BOWL), PATH[0], PATH[-1], resolution)


@pytest.mark.parametrize("margin", [-0.1, math.nan])
def test_the_margin_is_not_negative(margin):
    with pytest.raises(ValueError, match=rf"`margin` must .* at least 0; got {margin}\. Use 0\.2"):
        loss_on_plane(bowl(*BOWL), PATH, resolution=3, margin=margin)
