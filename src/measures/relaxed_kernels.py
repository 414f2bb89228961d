"""Kernels of relaxed layers as linear functions of the weights that relax them."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from src.measures.context import full_precision
from src.models.components.gcnn.filter_banks import RelaxedLayer
from src.models.components.gcnn.relaxation import Relaxable, relaxed_by
from src.models.components.projection import Kernel, turned
from src.models.components.translation import RelaxedTranslationConv


def used_weights(layer: Relaxable) -> dict[str, Tensor]:
    """All that a layer's kernel is linear in, as the layer uses it, by the parameter's name."""
    if not isinstance(layer, RelaxedLayer):
        name = "relaxed_weights" if hasattr(layer, "relaxed_weights") else "weight"
        return {name: layer.effective_weights()}
    if layer.relaxed_weights is None:
        return {"weight": layer.weight, **layer.effective_kernels()}
    return {"relaxed_weights": layer.effective_weights(), **layer.effective_kernels()}


def departing_weights(layer: Relaxable) -> dict[str, Tensor]:
    """The weights that a layer uses, less those that it uses at theta = 0; zero if strict."""
    weights = used_weights(layer)
    with relaxed_by(layer, 0.0):
        return {name: weights[name] - strict for name, strict in used_weights(layer).items()}


def kernel_energy(layer: Relaxable, weights: dict[str, Tensor]) -> Tensor:
    """||W||^2 of the kernel of a layer with these weights in place of its `used_weights`.

    A number in float64; the kernel is linear in these weights, so departures give departures.
    """
    if isinstance(layer, RelaxedLayer):
        return energy_per_element(layer, weights).sum()
    if isinstance(layer, RelaxedTranslationConv):  # products of the banks: no kernel is built
        (maps,) = weights.values()
        banks, maps = (w.flatten(1).cpu().double() for w in (layer.weight, maps))
        return (maps * (banks @ banks.t() @ maps)).sum()
    return fibres_of(layer, weights).square().sum()


def energy_per_element(layer: RelaxedLayer, weights: dict[str, Tensor]) -> Tensor:
    """[|G|]: ||W_g||^2 of every element."""
    return per_element(layer, fibres_of(layer, weights))


def per_element(layer: RelaxedLayer, fibres: Tensor) -> Tensor:
    """[|G|]: sums of squares of what belongs to each element."""
    element_axis = 1 if layer.out_type == "regular" else 3  # of the output; a readout's input
    return fibres.movedim(element_axis, 0).flatten(1).square().sum(1)


def changes_of_free_kernels(layer: RelaxedLayer) -> Iterator[Tensor]:
    """r K - K of free kernels K, as expanded fibres, for every element r; zeros without any."""
    kernels = layer.effective_kernels()
    still = {name: torch.zeros_like(w) for name, w in used_weights(layer).items()}
    free = fibres_of(layer, still | kernels)
    kernel = Kernel(free.flatten(2, 3).flatten(0, 1), layer.out_type, layer.in_type, layer.group)
    for r in range(layer.group.order):
        yield turned(kernel, r).view(free.shape) - free if kernels else free


def fibres_of(layer: Relaxable, weights: dict[str, Tensor]) -> Tensor:
    """The kernel, as expanded fibres, that these weights give; in float64."""
    with relaxed_by(layer, None), full_precision():
        named = {f"layer.{name}": w for name, w in weights.items()}
        return functional_call(_Kernel(layer), named, ()).cpu().double()


class _Kernel(nn.Module):
    """A layer whose output is its kernel."""

    def __init__(self, layer: Relaxable) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Tensor:
        return self.layer.expanded_fibres()
