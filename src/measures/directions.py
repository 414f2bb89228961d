"""Directions in the space of all weights: drawing them, measuring them, moving along them."""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from src.checks import check_integer
from src.measures.objective import Weights
from src.models.components.gcnn.filter_banks import RelaxedLayer
from src.models.components.translation import RelaxedTranslationConv


def random_directions(
    weights: Weights, num_directions: int, generator: torch.Generator
) -> Iterator[Weights]:
    r"""Draw directions uniformly from the unit sphere over all weights together.

    .. math:: d = \frac{z}{\|z\|}, \quad z \sim \mathcal{N}(0, I_P)

    with P the number of all weights: every weight has the mean square 1/P, whatever tensor it is
    part of. Each direction is one draw on the CPU in float64, so that it depends neither on the
    weights' device nor on their dtype.

    Args:
        weights: tensors whose shapes the directions take, by name.
        num_directions: number of directions; at least 1.
        generator: a generator on the CPU.

    Yields:
        Directions of norm 1, float64 on the CPU.

    Raises:
        ValueError: if there is no direction.
    """
    check_integer("num_directions", num_directions)
    sizes = [w.numel() for w in weights.values()]
    for _ in range(num_directions):
        gaussian = torch.randn(sum(sizes), generator=generator, dtype=torch.float64)
        parts = (gaussian / torch.linalg.vector_norm(gaussian)).split(sizes)
        yield {name: part.view(w.shape) for (name, w), part in zip(weights.items(), parts)}


def norm(vector: Weights) -> float:
    """Euclidean norm of all tensors as one vector, summed in float64."""
    return math.sqrt(sum(v.double().square().sum().item() for v in vector.values()))


def moved(weights: Weights, *moves: tuple[float, Weights]) -> Weights:
    r"""The weights, moved along directions: :math:`w + \sum_i t_i d_i`.

    ``moves`` are pairs of a step t_i and a direction d_i, which names all of w. Sums are in
    float64 and rounded once, to the dtype of w, on the device and in the memory layout of w: a
    step of 0 changes nothing at all.
    """
    result = {}
    for name, w in weights.items():
        total = w.double()
        for step, direction in moves:
            total = total + step * direction[name].to(total)
        result[name] = torch.empty_like(w).copy_(total)
    return result


def filter_normalized(direction: Weights, weights: Weights, network: nn.Module) -> Weights:
    r"""Rescale each filter of a direction to the norm of the network's filter at its place.

    .. math:: d_i \leftarrow \frac{\|w_i\|}{\|d_i\|}\, d_i

    Filters are the slices of a layer's ``weight`` along its first axis, the output channels; in
    layers with L filter banks, ``weight`` [L, O, ...], and of a ``free_kernel``, along its first
    two. Every other parameter counts as one filter: biases, scale and shift of a norm, relaxed
    weights. (Their numbers are no filters of their own: rescaled one by one, they would only keep
    their signs.)
    A filter that is zero stays where it is. The norm of the whole direction is then that of the
    weights, if no filter of it was zero.

    Multiplying a convolution's filters by factors that the norm after it divides out again
    changes the network's weights, not the network: filter-normalised directions change along.

    Reference: H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein, Visualizing the Loss Landscape of
    Neural Nets, NeurIPS 2018, section 4.

    Takes a direction and the weights w, parameters of ``network``, by name; returns float64
    tensors on the device of w.
    """
    result = {}
    for name, w in weights.items():
        w, d = w.double(), direction[name].to(w.device, torch.float64)
        module, _, attribute = name.rpartition(".")
        num_filter_axes = 2 if attribute == "free_kernel" else 0  # leading, that number filters
        if attribute == "weight" and w.ndim > 1:
            has_banks = (RelaxedLayer, RelaxedTranslationConv)
            num_filter_axes = 2 if isinstance(network.get_submodule(module), has_banks) else 1
        scale = _norms(w, num_filter_axes) / _norms(d, num_filter_axes)
        result[name] = d * scale.nan_to_num(0.0, posinf=0.0)
    return result


def check_fits(what: str, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise a ValueError unless the tensors have the names and shapes of the expected ones."""
    for name in [*expected, *(name for name in tensors if name not in expected)]:
        got, needed = (
            list(t[name].shape) if name in t else "no tensor" for t in (tensors, expected)
        )
        if got != needed:
            raise ValueError(
                f"{what} must have the names and shapes of the network's tensors; got {got} in "
                f"place of {needed} for {name!r}. Take it from the same network as the loss."
            )


def _norms(tensor: Tensor, num_leading: int) -> Tensor:
    """Norms over all axes but the leading ones; the axes stay with size 1."""
    axes = tuple(range(num_leading, tensor.ndim))
    if not axes:  # an empty tuple would mean all of them
        return tensor.abs()
    return torch.linalg.vector_norm(tensor, dim=axes, keepdim=True)
