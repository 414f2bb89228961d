"""The loss around the path of a training: on a line, and on the plane closest to the path."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from src.checks import check_integer, check_number
from src.measures.directions import check_fits, moved
from src.measures.objective import Objective, Weights
from src.measures.principal_components import PrincipalComponents, State, principal_components

Progress = Callable[[Iterable], Iterable]


class LossOnPlane(NamedTuple):
    """The loss around a path, and the path; all in float64 on the CPU.

    Attributes:
        a, b: [n], positions along the two components, in the weights' unit.
        losses: [n, n], the loss at (a[i], b[j]).
        components: the plane, and where the path lies on it or off it.
        path_losses: [T], the loss of each stored network itself. Where a point lies off the
            plane, with its weights or with its buffers, the loss on the plane is another.
    """

    a: Tensor
    b: Tensor
    losses: Tensor
    components: PrincipalComponents
    path_losses: Tensor


class LossOnLine(NamedTuple):
    """The loss at positions from 0 (start) to 1 (end); both [num_points], float64 on the CPU."""

    positions: Tensor
    losses: Tensor


def loss_on_plane(
    objective: Objective,
    path: Sequence[State],
    resolution: int,
    margin: float = 0.2,
    progress: Progress = iter,
) -> LossOnPlane:
    r"""The loss on the plane through the end of a path that fits the path best.

    .. math:: L(w_T + a\, d_1 + b\, d_2)

    with the `principal_components` d of the trainable parameters.

    Floating-point buffers move along by the same combination of the path's states. The running
    mean and variance of batch norm belong to the weights that they were measured at: the weights
    of the start with the statistics of the end are a network that training never saw. Variances
    that would become negative are 0. Integer buffers stay the end's.

    Args:
        objective: L; the network's own weights do not matter.
        path: T states of ``objective.network``, as its ``state_dict()`` gives them (copies), in
            order; at least three, not on a straight line.
        resolution: n, positions along each component; at least 2.
        margin: how far the plane extends beyond the path on each side, as a fraction of what the
            path covers along that component.
        progress: wraps the iterable of the n^2 points, as `tqdm.tqdm` does.

    Raises:
        ValueError: states that do not fit the network, a straight path, an argument out of range
            and what `principal_components` raises.
    """
    check_integer("resolution", resolution, minimum=2)
    check_number("margin", margin, minimum=0, fix="0.2")
    network = objective.network
    for state in path:
        check_fits("a state of the path", state, network.state_dict())
    components = principal_components(path, objective.weights())
    if components.explained_variance[1] == 0:
        raise ValueError(
            f"a plane needs a path that is not straight; got {len(path)} points on a line. Store "
            "more states, or use `loss_on_line`."
        )
    end = _placed(path[-1], network)
    moving = {name: tensor for name, tensor in end.items() if tensor.is_floating_point()}
    directions: list[Weights] = [{}, {}]  # sum_t c_t (state_t - state_T)
    for direction, coefficients in zip(directions, components.coefficients.tolist()):
        for name, tensor in moving.items():
            origin = path[-1][name].double()
            steps = (c * (s[name].double() - origin) for c, s in zip(coefficients, path))
            direction[name] = sum(steps).to(tensor.device)
    axes = []
    for coordinates in components.coordinates.mT:
        low, high = coordinates.min().item(), coordinates.max().item()
        beyond = margin * (high - low)
        axes.append(torch.linspace(low - beyond, high + beyond, resolution, dtype=torch.float64))

    def loss(point: tuple[float, float]) -> float:
        state = {**end, **moved(moving, *zip(point, directions))}
        for name, tensor in state.items():
            if name.endswith("running_var"):
                state[name] = tensor.clamp(min=0)
        return objective.value(state)

    points = torch.cartesian_prod(*axes).tolist()
    losses = _tensor([loss(point) for point in progress(points)])
    own = _tensor([objective.value(_placed(state, network)) for state in path])
    return LossOnPlane(*axes, losses.view(resolution, resolution), components, own)


def loss_on_line(objective: Objective, start: State, end: State, num_points: int) -> LossOnLine:
    r"""The loss on the straight line between two states of a network.

    .. math:: L((1 - s)\, w_\text{start} + s\, w_\text{end}), \quad 0 \leq s \leq 1

    Floating-point buffers move along, as in `loss_on_plane`, so that the line begins and ends
    with the losses of the two stored networks. Integer buffers are the end's.

    Reference: I. Goodfellow, O. Vinyals, A. Saxe, Qualitatively Characterizing Neural Network
    Optimization Problems, ICLR 2015.

    Args:
        objective: L; the network's own weights do not matter.
        start, end: states of ``objective.network``, as its ``state_dict()`` gives them.
        num_points: positions, with both ends; at least 2.

    Raises:
        ValueError: a state that does not fit the network, or too few points.
    """
    check_integer("num_points", num_points, minimum=2)
    network = objective.network
    for state in (start, end):
        check_fits("a state on the line", state, network.state_dict())

    def loss(position: float) -> float:
        state = {
            name: torch.lerp(start[name].double(), tensor.double(), position)  # exact at both ends
            if tensor.is_floating_point()
            else tensor
            for name, tensor in end.items()
        }
        return objective.value(_placed(state, network))

    positions = torch.linspace(0, 1, num_points, dtype=torch.float64)
    return LossOnLine(positions, _tensor([loss(position) for position in positions.tolist()]))


def _placed(state: State, network: nn.Module) -> Weights:
    """The state's tensors on the network's device, in its dtypes and memory layout."""
    own = chain(network.named_parameters(), network.named_buffers())
    return {n: torch.empty_like(t).copy_(state[n]) for n, t in own if n in state}


def _tensor(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
