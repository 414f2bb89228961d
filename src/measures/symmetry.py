"""Which symmetry relaxed layers have kept or found, and how far they departed from the strict."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.checks import check_number
from src.measures.relaxed_kernels import (
    changes_of_free_kernels,
    departing_weights,
    energy_per_element,
    fibres_of,
    kernel_energy,
    per_element,
    used_weights,
)
from src.models.components.gcnn.filter_banks import RelaxedLayer
from src.models.components.gcnn.relaxation import (
    Relaxable,
    pairwise_differences,
    relative_to_mean,
    relaxed_layers,
)

TOLERANCE = 0.01  # relative to the mean weight


@dataclass(frozen=True)
class GroupSymmetry:
    """How a layer relaxed over a group treats the group's elements.

    Attributes:
        group: the group's name.
        differences, kernel_departures, element_departures, alike: see the functions.
        kept: elements r that the layer is still equivariant to: the mean over g of the difference
            between r g and g is within the tolerance.
    """

    group: str
    differences: list[list[float]]
    kernel_departures: list[float]
    element_departures: list[float]
    alike: list[list[int]]
    kept: list[int]


@dataclass(frozen=True)
class LayerSymmetry:
    """How symmetric a relaxed layer is; ``over_group`` for a `RelaxedLayer` alone."""

    relaxed_weight_error: float
    departure: float
    over_group: GroupSymmetry | None


@torch.no_grad()
def symmetries(network: nn.Module, *, tolerance: float = TOLERANCE) -> dict[str, LayerSymmetry]:
    """The symmetry of every relaxed layer, by its name; the network is not run.

    Args:
        network: any network; without relaxed layers there is nothing.
        tolerance: differences between elements that count as none, relative to the mean weight.

    Raises:
        ValueError: if ``tolerance`` is negative.
    """
    check_number("tolerance", tolerance, minimum=0, fix=f"{TOLERANCE}")
    return {n: _of_layer(layer, tolerance) for n, layer in relaxed_layers(network).items()}


@torch.no_grad()
def element_differences(layer: RelaxedLayer) -> Tensor:
    r"""How differently a layer treats two elements of its group.

    .. math:: D(g, h) = \frac{\mathrm{mean}_l |w_l(g) - w_l(h)| + \mathrm{mean}_o |d_o(g) - d_o(h)|}
              {\mathrm{mean}_{l,g} |w_l(g)|}

    with w the relaxed weights and d the group biases, if there are any. Its mean over g and h is
    the layer's relaxed-weight error. Free kernels K (see `RelaxedLayer`) add

    .. math:: \frac{\|K_g - s K_h\|}{\sqrt{\mathrm{mean}_f \|W_f\|^2}}, \qquad s = g h^{-1}

    with W_f the kernel at f, and s K_h the kernel at h turned as an equivariant one would be.

    Returns:
        [|G|, |G|], without unit; symmetric, with zeros along the diagonal.
    """
    weights, biases = layer.effective_weights(), layer.effective_biases()
    parts = [pairwise_differences(w).mean(0) for w in (weights, biases) if w is not None]
    differences = relative_to_mean(sum(parts), weights)
    if layer.effective_kernels():
        changes = torch.stack([per_element(layer, d) for d in changes_of_free_kernels(layer)])
        group = layer.group
        others = group.cayley[group.inverse].to(weights.device)  # [s, g]: h = s^-1 g
        whole = energy_per_element(layer, used_weights(layer)).mean()
        roots = torch.where(changes > 0, changes / whole, 0.0).sqrt().to(weights)
        differences = differences + torch.zeros_like(differences).scatter(1, others.t(), roots.t())
    return differences


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
def departure(layer: Relaxable) -> float:
    r"""How far a layer's kernel is from its strict projection, in per cent of the kernel's norm.

    .. math:: 100\, \frac{\|W - W_\text{strict}\|}{\|W\|}

    with W the expanded kernel and W_strict that of the layer at theta = 0 (see `Relaxable`); for
    `RelaxedTranslationConv`, with the kernels sum_l w_l(x) psi_l of all positions x. It is 0 if
    and only if the kernel is strict; a kernel of zeros is. Biases play no part.

    For layers over a group whose elements all map the pixel grid to itself, and for translations,
    W_strict is the strict kernel nearest to W in the Frobenius norm, and a departure of d per cent
    leaves it the fraction 1 - (d / 100)^2 of the energy ||W||^2. For other groups (C8), for
    `RelaxedSteerableConv` and with free kernels (see `RelaxedLayer`), W_strict is the nearest in
    the relaxed weights, not in the kernel: the value is then an upper bound of the distance to the
    nearest, and may exceed 100.
    """
    return _per_cent(kernel_energy(layer, departing_weights(layer)), layer).item()


@torch.no_grad()
def kernel_departures(layer: RelaxedLayer) -> Tensor:
    r"""How far the kernel of every element g is from its strict projection, in per cent.

    .. math:: d(g) = 100\, \frac{\|W_g - W_{\text{strict}, g}\|}
              {\sqrt{\mathrm{mean}_h \|W_h\|^2}}

    with W_g the part of the expanded kernel that the element g turns. The mean over g of the
    squares is the square of `departure`.

    Returns:
        [|G|], in per cent.
    """
    energies = energy_per_element(layer, departing_weights(layer))
    return _per_cent(layer.group.order * energies, layer)


@torch.no_grad()
def element_departures(layer: RelaxedLayer) -> Tensor:
    r"""How far a layer's kernel is from equivariant to each element r of its group, in per cent.

    .. math:: e(r) = 100\, \sqrt{\frac{\sum_g \|W_g - T_r W_{r^{-1} g}\|^2}{2 \sum_g \|W_g\|^2}}

    The kernel at g is W_g = T_g psi_g with psi_g = sum_l w_l(g) psi_l. Equivariance to r asks
    W_g = T_r W_{r^-1 g}, and T_r T_{r^-1 g} = T_g, so it asks psi_g = psi_{r^-1 g} for all g: the
    difference is taken as T_g (psi_g - psi_{r^-1 g}). So e(r) = 0 makes the layer, without group
    biases, equivariant to r as exactly as T_r T_s = T_rs holds: to rounding on elements that map
    the pixel grid to itself. For groups of these the mean over r of the squares is the square of
    `departure`, and e(r s) <= e(r) + e(s): elements of departure zero form a subgroup.

    Free kernels K (see `RelaxedLayer`) add K_g - T_r K_{r^-1 g}, with T_r bilinear.

    Returns:
        [|G|], in per cent; zero at the identity.
    """
    weights, group = used_weights(layer), layer.group
    still = {name: torch.zeros_like(w) for name, w in weights.items()}
    banks = weights.get("relaxed_weights")
    energies = []
    for source, change_of_free in zip(group.cayley[group.inverse], changes_of_free_kernels(layer)):
        change = still  # of the banks, from g to r^-1 g
        if banks is not None:
            change = still | {"relaxed_weights": banks[:, source.to(banks.device)] - banks}
        energies.append((change_of_free + fibres_of(layer, change)).square().sum())
    return _per_cent(torch.stack(energies) / 2, layer)


def _per_cent(energies: Tensor, layer: Relaxable) -> Tensor:
    """100 times the root of energies over that of the layer's kernel; 0 for none."""
    whole = kernel_energy(layer, used_weights(layer))
    return 100 * torch.where(energies > 0, energies / whole, 0.0).sqrt()


def _of_layer(layer: Relaxable, tolerance: float) -> LayerSymmetry:
    over_group = None
    if isinstance(layer, RelaxedLayer):
        differences, cayley = element_differences(layer), layer.group.cayley
        own = differences.cpu().gather(0, cayley).mean(1)  # [r]: mean over g of D(r g, g)
        over_group = GroupSymmetry(
            group=layer.group.name,
            differences=differences.tolist(),
            kernel_departures=kernel_departures(layer).tolist(),
            element_departures=element_departures(layer).tolist(),
            alike=elements_alike(differences, tolerance),
            kept=[r for r, difference in enumerate(own.tolist()) if difference <= tolerance],
        )
    return LayerSymmetry(layer.relaxed_weight_error().item(), departure(layer), over_group)
