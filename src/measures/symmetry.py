"""Which symmetry relaxed layers have kept or found, and what imposing it again would cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.checks import check_number
from src.measures.context import preserved_rng, unchanged
from src.models.components.gcnn.filter_banks import RelaxedLayer
from src.models.components.gcnn.relaxation import (
    Relaxable,
    pairwise_differences,
    relative_to_mean,
    relaxed_by,
    relaxed_layers,
)
from src.models.components.translation import RelaxedTranslationConv

TOLERANCE = 0.01  # relative to the mean weight


@dataclass(frozen=True)
class GroupSymmetry:
    """How a layer relaxed over a group treats the group's elements.

    Attributes:
        group: the group's name.
        differences, departures, alike: see `element_differences`, ...
        kept: elements that the layer is still equivariant to, of a departure within the tolerance.
    """

    group: str
    differences: list[list[float]]
    departures: list[float]
    alike: list[list[int]]
    kept: list[int]


@dataclass(frozen=True)
class LayerSymmetry:
    """How symmetric a relaxed layer is; ``over_group`` for a `RelaxedLayer` alone."""

    relaxed_weight_error: float
    symmetric_fraction: float
    over_group: GroupSymmetry | None


@dataclass(frozen=True)
class NetworkSymmetry:
    """Symmetry of relaxed layers, and scores ``before`` and ``after`` the projection, by name."""

    layers: dict[str, LayerSymmetry]
    scores: dict[str, dict[str, float]]


def symmetry(
    network: nn.Module,
    score: Callable[[], Mapping[str, float]] | None = None,
    *,
    tolerance: float = TOLERANCE,
) -> NetworkSymmetry:
    """The symmetry of every relaxed layer, and what projecting the network onto it costs.

    The projection makes every relaxed layer strict (theta = 0, see `Relaxable`): its relaxed
    weights are replaced by their means, which are the nearest strict ones; see
    `symmetric_fraction` for when the kernel is the nearest strict one too. All else stays: norms
    keep the running statistics of the network before.

    Measured in eval mode, without gradients; the network and random states do not change.

    Args:
        network: a network with at least one relaxed layer.
        score: gives scores of the network as it stands when called, by name, such as its accuracy
            on fixed data; called before and after the projection, from the same random state.
        tolerance: differences between elements that count as none, relative to the mean weight.

    Raises:
        ValueError: if there is no relaxed layer, or ``tolerance`` is negative.
    """
    check_number("tolerance", tolerance, minimum=0, fix=f"{TOLERANCE}")

    def scores() -> dict[str, float]:
        with preserved_rng():
            return {} if score is None else {n: float(value) for n, value in score().items()}

    with unchanged(network), torch.no_grad():
        layers = {n: _of_layer(layer, tolerance) for n, layer in relaxed_layers(network).items()}
        before = scores()
        with relaxed_by(network, 0.0):
            after = scores()
    changes = {
        name: {"before": old, "after": after[name], "difference": after[name] - old}
        for name, old in before.items()
    }
    return NetworkSymmetry(layers, changes)


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

    def difference(weights: Tensor) -> Tensor:
        moved = weights[..., layer.group.cayley.to(weights.device)]  # [..., r, g]: w(r g)
        return (moved - weights[..., None, :]).abs().mean(-1)

    return _mean_over_weights(layer, difference)


def elements_alike(differences: Tensor, tolerance: float = TOLERANCE) -> list[list[int]]:
    """The finest partition of elements in which those within the tolerance are together.

    Elements are together where a chain of others leads from one to the next, each step within
    the tolerance. For a layer that is equivariant to a subgroup H alone these are the cosets H g.
    Differences are those of `element_differences`, [|G|, |G|]. Each class is in order, and the
    classes are in the order of their first elements.
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
    over_positions = isinstance(layer, RelaxedTranslationConv)

    def kernel() -> Tensor:  # over positions: the weights alone, [L, H W]
        found = layer.effective_weights().flatten(1) if over_positions else layer.expanded_kernel()
        return found.cpu().double()

    def energy(found: Tensor) -> float:
        if not over_positions:
            return found.square().sum().item()
        banks = layer.weight.flatten(1).cpu().double()  # their products, so no kernel is built
        return (found * (banks @ banks.t() @ found)).sum().item()

    whole = kernel()
    with relaxed_by(layer, 0.0):
        rest = energy(whole - kernel())
    return 1.0 - rest / energy(whole) if rest else 1.0


def _of_layer(layer: Relaxable, tolerance: float) -> LayerSymmetry:
    over_group = None
    if isinstance(layer, RelaxedLayer):
        differences, departures = element_differences(layer), element_departures(layer).tolist()
        over_group = GroupSymmetry(
            group=layer.group.name,
            differences=differences.tolist(),
            departures=departures,
            alike=elements_alike(differences, tolerance),
            kept=[r for r, departure in enumerate(departures) if departure <= tolerance],
        )
    return LayerSymmetry(layer.relaxed_weight_error().item(), symmetric_fraction(layer), over_group)


def _mean_over_weights(layer: RelaxedLayer, difference: Callable[[Tensor], Tensor]) -> Tensor:
    """Means of differences over banks, and over channels of biases, relative to the mean |w|."""
    weights, biases = layer.effective_weights(), layer.effective_biases()
    parts = [difference(w).mean(0) for w in (weights, biases) if w is not None]
    return relative_to_mean(sum(parts), weights)
