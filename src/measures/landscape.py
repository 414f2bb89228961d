"""The loss around the path of a training: on a line, and on the plane closest to the path."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from src.checks import check_integer
from src.measures.directions import check_fits, moved
from src.measures.objective import Objective, Weights
from src.measures.principal_components import PrincipalComponents, State, principal_components

Progress = Callable[[Iterable], Iterable]


class LossOnPlane(NamedTuple):
    """The loss around a path, and the path.

    Attributes:
        a: [n], positions along the first component, in the weights' unit.
        b: [n], positions along the second.
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
    """The loss at positions between 0 (start) and 1 (end); both [num_points]."""

    positions: Tensor
    losses: Tensor


def loss_on_plane(
    objective: Objective,
    path: Sequence[State],
    *,
    resolution: int,
    margin: float = 0.2,
    progress: Progress | None = None,
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

    Returns:
        All in float64 on the CPU.

    Raises:
        ValueError: states that do not fit the network, a straight path, an argument out of range
            and what `principal_components` raises.
    """
    check_integer("resolution", resolution, minimum=2)
    if not math.isfinite(margin) or margin < 0:
        raise ValueError(f"`margin` must be a finite number of at least 0; got {margin}. Use 0.2.")
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
    directions = [_combined(path, row, moving) for row in components.coefficients.tolist()]
    a, b = (_positions(c, resolution, margin) for c in components.coordinates.mT)

    def loss(point: tuple[float, float]) -> float:
        weights = moved(moving, *zip(point, directions))
        return objective.value({**end, **_with_variances(weights)})

    points = torch.cartesian_prod(a, b).tolist()
    losses = [loss(point) for point in (points if progress is None else progress(points))]
    own = [objective.value(_placed(state, network)) for state in path]
    return LossOnPlane(a, b, _tensor(losses).view(len(a), len(b)), components, _tensor(own))


def loss_on_line(objective: Objective, start: State, end: State, num_points: int) -> LossOnLine:
    r"""The loss on the straight line between two states of a network.

    .. math:: L((1 - s)\, w_\text{start} + s\, w_\text{end}), \quad 0 \leq s \leq 1

    Floating-point buffers move along, as in `loss_on_plane`, so that the line begins and ends
    with the losses of the two stored networks. Integer buffers are the end's.

    Reference: I. Goodfellow, O. Vinyals, A. Saxe, Qualitatively Characterizing Neural Network
    Optimization Problems, ICLR 2015.

    Args:
        objective: L; the network's own weights do not matter.
        start: a state of ``objective.network``, as its ``state_dict()`` gives it.
        end: another.
        num_points: positions, with both ends; at least 2.

    Returns:
        Both in float64 on the CPU.

    Raises:
        ValueError: a state that does not fit the network, or too few points.
    """
    check_integer("num_points", num_points, minimum=2)
    network = objective.network
    for state in (start, end):
        check_fits("a state on the line", state, network.state_dict())
    positions = torch.linspace(0, 1, num_points, dtype=torch.float64)
    losses = [
        objective.value(_placed(_between(start, end, position), network))
        for position in positions.tolist()
    ]
    return LossOnLine(positions, _tensor(losses))


def _positions(coordinates: Tensor, resolution: int, margin: float) -> Tensor:
    low, high = coordinates.min().item(), coordinates.max().item()
    beyond = margin * (high - low)
    return torch.linspace(low - beyond, high + beyond, resolution, dtype=torch.float64)


def _combined(path: Sequence[State], coefficients: list[float], like: Weights) -> Weights:
    """sum_t c_t (state_t - state_T), float64 on the network's device."""

    def combine(name: str, device: torch.device) -> Tensor:
        end = path[-1][name].double()
        return sum(c * (s[name].double() - end) for c, s in zip(coefficients, path)).to(device)

    return {name: combine(name, tensor.device) for name, tensor in like.items()}


def _between(start: State, end: State, position: float) -> State:
    """Exactly the start at 0 and the end at 1."""
    return {
        name: torch.lerp(start[name].double(), tensor.double(), position)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in end.items()
    }


def _placed(state: State, network: nn.Module) -> Weights:
    """The state's tensors on the network's device, in its dtypes and memory layout."""
    own = chain(network.named_parameters(), network.named_buffers())
    return {n: torch.empty_like(t).copy_(state[n]) for n, t in own if n in state}


def _with_variances(weights: Weights) -> Weights:
    """With running variances that are at least 0."""
    return {
        name: tensor.clamp(min=0) if name.endswith("running_var") else tensor
        for name, tensor in weights.items()
    }


def _tensor(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
