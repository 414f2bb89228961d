"""The loss around weights: on the plane of a training, on random planes and on a line."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from src.checks import check_integer, check_number
from src.measures.batch_norm import reestimated_statistics
from src.measures.directions import check_fits, filter_normalized, moved, random_directions
from src.measures.objective import Objective, Weights
from src.measures.principal_components import PrincipalComponents

Progress = Callable[[Iterable], Iterable]


class Plane(NamedTuple):
    r"""Points on a grid, :math:`w + a_i\, d_1 + b_j\, d_2`.

    Attributes:
        origin: w, by name.
        directions: d_1 and d_2, in float64.
        a, b: [n], positions along the directions, float64 on the CPU.
    """

    origin: Weights
    directions: tuple[Weights, Weights]
    a: Tensor
    b: Tensor


class LossOnLine(NamedTuple):
    """The loss at positions from 0 (start) to 1 (end); both [num_points], float64 on the CPU."""

    positions: Tensor
    losses: Tensor


def plane_of_path(
    path: Sequence[Weights], components: PrincipalComponents, resolution: int, margin: float = 0.2
) -> Plane:
    """The plane through the end of a path that fits the path best.

    Args:
        path: weights along training, in order.
        components: their `principal_components`; positions are in the weights' unit.
        resolution: n, positions along each component; at least 2.
        margin: how far the plane extends beyond the path on each side, as a fraction of what the
            path covers along that component.

    Raises:
        ValueError: a path on a straight line, or an argument out of range.
    """
    check_integer("resolution", resolution, minimum=2)
    check_number("margin", margin, minimum=0, fix="0.2")
    if components.explained_variance[1] == 0:
        raise ValueError(
            f"a plane needs a path that is not straight; got {len(path)} points on a line. Store "
            "more states, or use `loss_on_line`."
        )
    directions: tuple[Weights, Weights] = ({}, {})  # sum_t c_t (w_t - w_T)
    for direction, coefficients in zip(directions, components.coefficients.tolist()):
        for name, end in path[-1].items():
            steps = (c * (w[name].double() - end.double()) for c, w in zip(coefficients, path))
            direction[name] = sum(steps)
    axes = []
    for coordinates in components.coordinates.mT:
        low, high = coordinates.min().item(), coordinates.max().item()
        beyond = margin * (high - low)
        axes.append(torch.linspace(low - beyond, high + beyond, resolution, dtype=torch.float64))
    return Plane(path[-1], directions, *axes)


def random_plane(
    network: nn.Module, weights: Weights, resolution: int, radius: float, generator: torch.Generator
) -> Plane:
    """A plane around weights along two random directions, each `filter_normalized`.

    At position 1 every filter has moved by its own norm, so planes of different networks compare.
    The directions are independent but not made orthogonal, as in the source: with many filters they
    nearly are (cosine 0.02 in a network of 58,000 weights), and ones made orthogonal would no
    longer be filter-normalised.

    Reference: H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein, Visualizing the Loss Landscape of
    Neural Nets, NeurIPS 2018, section 4. There biases and norms do not move; here they do.

    Args:
        network: whose filters are normalised.
        weights: the origin, parameters of the network by name.
        resolution: n, positions along each direction; at least 2.
        radius: the largest position, in units of the filters' norms; the smallest is its negative.
        generator: a generator on the CPU.

    Raises:
        ValueError: an argument out of range.
    """
    check_integer("resolution", resolution, minimum=2)
    check_number("radius", radius, minimum=0, fix="1.0")
    first, second = (
        filter_normalized(direction, weights, network)
        for direction in random_directions(weights, 2, generator)
    )
    axis = torch.linspace(-radius, radius, resolution, dtype=torch.float64)
    return Plane(weights, (first, second), axis, axis)


def loss_at(objective: Objective, weights: Weights, statistics: Sequence[Tensor] = ()) -> float:
    """The loss of the network with these weights, and with batch-norm statistics of them.

    The weights are put into the network, running statistics of batch norm are re-estimated there
    (`reestimated_statistics`), and weights and buffers are restored, also after an error. All
    other buffers are the network's own: they are constants of the data or of a layer, no
    coordinates. So are running statistics without batches to estimate them on.

    Args:
        objective: L.
        weights: values of all trainable parameters, by name.
        statistics: batches of inputs of ``objective.network``.

    Raises:
        ValueError: weights that do not fit the network.
    """
    check_fits("weights", weights, objective.weights())
    network = objective.network
    with _weights_in_place(network, weights), reestimated_statistics(network, statistics):
        return objective.value()


def loss_on_plane(
    objective: Objective, plane: Plane, statistics: Sequence[Tensor] = (), progress: Progress = iter
) -> Tensor:
    r"""`loss_at` every point of a plane, :math:`L(w + a_i\, d_1 + b_j\, d_2)`.

    Args:
        objective: L; the network's own weights do not matter.
        plane: w, d, a and b.
        statistics: batches for the statistics of batch norm at each point.
        progress: wraps the iterable of the points, as `tqdm.tqdm` does.

    Returns:
        [len(a), len(b)], float64 on the CPU.
    """
    points = torch.cartesian_prod(plane.a, plane.b).tolist()
    losses = [
        loss_at(objective, moved(plane.origin, *zip(point, plane.directions)), statistics)
        for point in progress(points)
    ]
    return torch.tensor(losses, dtype=torch.float64).view(len(plane.a), len(plane.b))


def loss_on_line(
    objective: Objective,
    start: Weights,
    end: Weights,
    num_points: int,
    statistics: Sequence[Tensor] = (),
) -> LossOnLine:
    r"""`loss_at` points of the straight line between two networks.

    .. math:: L((1 - s)\, w_\text{start} + s\, w_\text{end}), \quad 0 \leq s \leq 1

    Reference: I. Goodfellow, O. Vinyals, A. Saxe, Qualitatively Characterizing Neural Network
    Optimization Problems, ICLR 2015.

    Args:
        objective: L; the network's own weights do not matter.
        start, end: weights by name.
        num_points: positions, with both ends; at least 2.
        statistics: batches for the statistics of batch norm at each point.

    Raises:
        ValueError: weights that do not fit the network, or too few points.
    """
    check_integer("num_points", num_points, minimum=2)
    for weights in (start, end):
        check_fits("weights at an end of the line", weights, objective.weights())
    positions = torch.linspace(0, 1, num_points, dtype=torch.float64)
    losses = []
    for s in positions.tolist():  # torch.lerp is exact at both ends
        between = {n: torch.lerp(start[n].double(), w.double(), s) for n, w in end.items()}
        losses.append(loss_at(objective, between, statistics))
    return LossOnLine(positions, torch.tensor(losses, dtype=torch.float64))


@contextmanager
def _weights_in_place(network: nn.Module, weights: Weights) -> Iterator[None]:
    """Weights in the network's own tensors; on leaving, those have their values again."""
    parameters = dict(network.named_parameters())
    own = {name: parameters[name].detach().clone() for name in weights}
    try:
        with torch.no_grad():
            for name, w in weights.items():
                parameters[name].copy_(w)
        yield
    finally:
        with torch.no_grad():
            for name, w in own.items():
                parameters[name].copy_(w)
