"""Which symmetry relaxed layers have kept or found, and what imposing it again would cost."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.measures.context import as_written, evaluation_mode, preserved_rng
from src.models.components.gcnn.relaxation import (
    Relaxable,
    pairwise_differences,
    relative_to_mean,
    relaxed_by,
    relaxed_layers,
)
from src.models.components.gcnn.relaxed import RelaxedLayer
from src.models.components.translation import RelaxedTranslationConv

Scores = Mapping[str, float]
TOLERANCE = 0.01  # of the mean weight


@dataclass(frozen=True)
class GroupSymmetry:
    """What a layer relaxed over a group makes of the group's elements.

    Attributes:
        group: the group's name.
        differences: [|G|][|G|], see `element_differences`.
        departures: [|G|], see `element_departures`.
        alike: the elements, in classes that the layer treats alike, see `elements_alike`.
        kept: the elements that the layer is still equivariant to: those of a departure within
            the tolerance. The identity always is.
    """

    group: str
    differences: list[list[float]]
    departures: list[float]
    alike: list[list[int]]
    kept: list[int]


@dataclass(frozen=True)
class LayerSymmetry:
    """How symmetric a relaxed layer is.

    Attributes:
        relaxed_weight_error: see `src.measures.relaxed_weight_error`.
        symmetric_fraction: see `symmetric_fraction`.
        over_group: for a layer relaxed over a group (`RelaxedLayer`), else None.
    """

    relaxed_weight_error: float
    symmetric_fraction: float
    over_group: GroupSymmetry | None


@dataclass(frozen=True)
class ScoreChange:
    """A score of a network, of its projection, and the second minus the first."""

    before: float
    after: float
    difference: float


@dataclass(frozen=True)
class NetworkSymmetry:
    """`dataclasses.asdict` makes plain dicts, lists and numbers of it.

    Attributes:
        layers: of each relaxed layer, by its name in the network.
        scores: by name; empty where no score was asked for.
    """

    layers: dict[str, LayerSymmetry]
    scores: dict[str, ScoreChange]


def symmetry(
    network: nn.Module,
    score: Callable[[], Scores] | None = None,
    *,
    tolerance: float = TOLERANCE,
) -> NetworkSymmetry:
    """The symmetry of every relaxed layer, and what projecting the network onto it costs.

    Measured in eval mode, without gradients. Parameters, buffers, modes, random states and the
    layers' relaxation are afterwards what they were.

    Args:
        network: a network with at least one relaxed layer.
        score: gives scores of the network as it stands when called, by name, such as its accuracy
            on fixed data; called before and after the projection (see `projected`), from the same
            random state.
        tolerance: differences between elements that count as none, relative to the mean weight.

    Raises:
        ValueError: if there is no relaxed layer, ``tolerance`` is negative, or the two calls of
            ``score`` name different scores.
    """
    _check_tolerance(tolerance)
    _check_relaxed(network)
    found = relaxed_layers(network).items()
    with evaluation_mode(network), as_written(network), torch.no_grad():
        layers = {name: _layer_symmetry(layer, tolerance) for name, layer in found}
        before = _scored(score)
        with projected(network):
            after = _scored(score)
    return NetworkSymmetry(layers, _changes(before, after))


@contextmanager
def projected(network: nn.Module) -> Iterator[nn.Module]:
    """The network with every relaxed layer made strict (theta = 0, see `Relaxable`).

    Its relaxed weights are replaced by their means, which are the nearest strict ones; see
    `symmetric_fraction` for when the kernel is the nearest strict one too. All else stays: norms
    keep the running statistics of the network before.

    Yields:
        The network; on leaving, its layers are as relaxed as they were.

    Raises:
        ValueError: if there is no relaxed layer.
    """
    _check_relaxed(network)
    with relaxed_by(network, 0.0):
        yield network


@torch.no_grad()
def element_differences(layer: RelaxedLayer) -> Tensor:
    r"""How differently a layer treats two elements of its group.

    .. math:: D(g, h) = \frac{\mathrm{mean}_l |w_l(g) - w_l(h)| + \mathrm{mean}_o |d_o(g) - d_o(h)|}
              {\mathrm{mean}_{l,g} |w_l(g)|}

    with w the relaxed weights and d the group biases, if there are any. Its mean over g and h is
    the layer's relaxed-weight error.

    Returns:
        [|G|, |G|], without unit; symmetric, with zeros along the diagonal.
    """
    return _mean_over_weights(layer, pairwise_differences)


@torch.no_grad()
def element_departures(layer: RelaxedLayer) -> Tensor:
    r"""How far a layer is from equivariant to each element r of its group.

    .. math:: e(r) = \frac{\mathrm{mean}_{l,g} |w_l(r g) - w_l(g)|
              + \mathrm{mean}_{o,g} |d_o(r g) - d_o(g)|}{\mathrm{mean}_{l,g} |w_l(g)|}

    The kernel at g is W_g = T_g psi_g with psi_g = sum_l w_l(g) psi_l. Equivariance to r asks
    W_g = T_r W_{r^-1 g}, and T_r T_{r^-1 g} = T_g, so it asks psi_g = psi_{r^-1 g} for all g:
    equal weights at g and r g. (Of banks that depend on each other linearly, unequal weights may
    mix equal kernels.) So e(r) = 0 makes the layer equivariant to r, as exactly as T_r T_s = T_rs
    holds: to rounding on elements that map the pixel grid to itself. Elements of departure zero
    form a subgroup, since e(r s) <= e(r) + e(s) and e(r^-1) = e(r).

    Returns:
        [|G|], without unit; zero at the identity.
    """
    cayley = layer.group.cayley

    def difference(weights: Tensor) -> Tensor:
        moved = weights[..., cayley.to(weights.device)]  # [..., r, g]: w(r g)
        return (moved - weights[..., None, :]).abs().mean(-1)

    return _mean_over_weights(layer, difference)


def elements_alike(differences: Tensor, tolerance: float = TOLERANCE) -> list[list[int]]:
    """The finest partition of elements in which those within the tolerance are together.

    Elements are together where a chain of others leads from one to the next, each step within
    the tolerance. For a layer that is equivariant to a subgroup H alone these are the cosets H g.

    Args:
        differences: [|G|, |G|], see `element_differences`.
        tolerance: the largest difference that counts as none.

    Returns:
        Classes of elements, each in order, the classes in the order of their first elements.
    """
    near = (differences <= tolerance).to(torch.float64).cpu()
    joined = torch.matrix_power(near, max(len(near) - 1, 1)) > 0
    return [list(c) for c in dict.fromkeys(tuple(row.nonzero()[:, 0].tolist()) for row in joined)]


@torch.no_grad()
def symmetric_fraction(layer: Relaxable) -> float:
    r"""The part of a layer's kernel that its strict projection keeps, in squares.

    .. math:: 1 - \frac{\|W - W_\text{strict}\|^2}{\|W\|^2}

    with W the expanded kernel and W_strict that of the layer at theta = 0 (see `Relaxable`); for
    `RelaxedTranslationConv`, with the kernels sum_l w_l(x) psi_l of all positions x. It is 1 if
    and only if the kernel is strict; a kernel of zeros is. Biases play no part.

    For layers over a group whose elements all map the pixel grid to itself, and for translations,
    W_strict is the strict kernel nearest to W in the Frobenius norm, so W - W_strict is
    orthogonal to it and the value is the fraction of energy
    ||W_strict||^2 / ||W||^2, from 0 to 1. For other groups (C8), and for `RelaxedSteerableConv`,
    W_strict is the nearest in the relaxed weights, not in the kernel: the value is then a lower
    bound of the fraction that the nearest strict kernel has, and may be negative.

    Returns:
        A number without unit.
    """
    if isinstance(layer, RelaxedTranslationConv):
        return _fraction_over_positions(layer)
    kernel = layer.expanded_kernel().cpu().double()
    with relaxed_by(layer, 0.0):
        strict = layer.expanded_kernel().cpu().double()
    return _one_minus(_energy(kernel - strict), _energy(kernel))


def _fraction_over_positions(layer: RelaxedTranslationConv) -> float:
    """With the products <psi_l, psi_m>, so that no kernel is built."""
    banks = layer.weight.flatten(1).cpu().double()
    products = banks @ banks.t()
    weights = layer.effective_weights().flatten(1).cpu().double()
    with relaxed_by(layer, 0.0):
        strict = layer.effective_weights().flatten(1).cpu().double()

    def energy(maps: Tensor) -> float:
        return (maps * (products @ maps)).sum().item()

    return _one_minus(energy(weights - strict), energy(weights))


def _energy(kernel: Tensor) -> float:
    return kernel.square().sum().item()


def _one_minus(part: float, whole: float) -> float:
    return 1.0 - part / whole if part else 1.0


def _mean_over_weights(layer: RelaxedLayer, difference: Callable[[Tensor], Tensor]) -> Tensor:
    """Means of differences over banks, and over channels of biases, relative to the mean |w|."""
    weights, biases = layer.effective_weights(), layer.effective_biases()
    parts = [difference(w).mean(0) for w in (weights, biases) if w is not None]
    return relative_to_mean(sum(parts), weights)


def _layer_symmetry(layer: Relaxable, tolerance: float) -> LayerSymmetry:
    over_group = _group_symmetry(layer, tolerance) if isinstance(layer, RelaxedLayer) else None
    return LayerSymmetry(layer.relaxed_weight_error().item(), symmetric_fraction(layer), over_group)


def _group_symmetry(layer: RelaxedLayer, tolerance: float) -> GroupSymmetry:
    differences, departures = element_differences(layer), element_departures(layer).tolist()
    return GroupSymmetry(
        group=layer.group.name,
        differences=differences.tolist(),
        departures=departures,
        alike=elements_alike(differences, tolerance),
        kept=[r for r, departure in enumerate(departures) if departure <= tolerance],
    )


def _scored(score: Callable[[], Scores] | None) -> dict[str, float]:
    if score is None:
        return {}
    with preserved_rng():
        return {name: float(value) for name, value in score().items()}


def _changes(before: Scores, after: Scores) -> dict[str, ScoreChange]:
    if before.keys() != after.keys():
        raise ValueError(
            "`score` must name the same scores before and after the projection; got "
            f"{sorted(before)} and {sorted(after)}. Give every score at each call."
        )
    return {n: ScoreChange(score, after[n], after[n] - score) for n, score in before.items()}


def _check_relaxed(network: nn.Module) -> None:
    if not relaxed_layers(network):
        raise ValueError(
            "a network must have a relaxed layer (`RelaxedGroupConv`, `RelaxedTranslationConv`, "
            f"...), because others have no strict projection; got {type(network).__name__} "
            "without any. Measure a relaxed network, such as model=rgcnn."
        )


def _check_tolerance(tolerance: object) -> None:
    is_number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if not is_number or not tolerance >= 0:
        raise ValueError(
            "`tolerance`, relative to the mean weight, must be a number of at least 0; got "
            f"{tolerance!r}. Use {TOLERANCE}."
        )
