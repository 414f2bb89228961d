"""What all relaxed layers share: how relaxed they are, and how far they are from strict ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Relaxable(nn.Module):
    r"""Mixin of every relaxed layer: how much of its weights' departures from strict it uses.

    .. math:: \bar w + \theta\, (w - \bar w)

    stands in place of the weights w wherever the layer uses them, with w_bar their mean over what
    a strict layer shares them over (a group's elements, or positions). At theta = 1 the layer is
    free; at theta = 0 it is exactly strict: all the weights it uses are equal to the last bit.
    The gradient reaches departures from the mean times theta, and the mean in full, so at
    theta = 0 a loss moves no departure (an optimizer's momentum still may).

    Attributes:
        relaxation: theta, a tensor without axes, or None: free, at no cost. Set it by
            `set_relaxation`. It is not in ``state_dict``.

    Reference: S. Pertigkiozoglou, E. Chatzipantazis, S. Trivedi, K. Daniilidis, Improving
    Equivariant Model Training via Constraint Relaxation, NeurIPS 2024.
    """

    relaxation: Tensor | None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register_buffer("relaxation", None, persistent=False)

    def _relaxed(self, weights: Tensor, num_axes: int = 1) -> Tensor:
        """The weights the layer uses, with w_bar the mean over the last ``num_axes`` axes."""
        if self.relaxation is None:
            return weights
        axes = tuple(range(-num_axes, 0))
        first = weights[(..., *[slice(1)] * num_axes)]
        mean = first + (weights - first).mean(axes, keepdim=True)  # equal weights: to the last bit
        return torch.lerp(mean, weights, self.relaxation.to(weights.dtype))


def set_relaxation(network: nn.Module, theta: float | None) -> None:
    """Set theta of all relaxed layers of a network, see `Relaxable`.

    Where a layer has a theta already its number is replaced in place, so that a compiled network
    is not compiled anew. Kernels that layers keep are forgotten.

    Args:
        network: a network, or a layer.
        theta: from 0 (strict) to 1 (free), or None (free, without any cost).

    Raises:
        TypeError, ValueError: if theta is no such number, or there is no relaxed layer for one.
    """
    check_relaxation(theta)
    layers = relaxed_layers(network)
    if theta is not None and not layers:
        raise ValueError(
            "a relaxation needs a relaxed layer (`RelaxedGroupConv`, `RelaxedTranslationConv`, "
            f"...); got {type(network).__name__} without any. Use a relaxed network, such as "
            "model=rgcnn, or model.relaxation=null."
        )
    for layer in layers.values():
        _set(layer, theta)


@contextmanager
def relaxed_by(network: nn.Module, theta: float | None) -> Iterator[nn.Module]:
    """A network at another theta; on leaving, each of its layers has its own back.

    Yields:
        The network.

    Raises:
        TypeError, ValueError: as `set_relaxation`.
    """
    layers = relaxed_layers(network).values()
    before = [layer.relaxation for layer in layers]
    try:
        for layer in layers:  # not in place: a graph may still need the tensors of before
            layer.relaxation = None
        set_relaxation(network, theta)
        yield network
    finally:
        for layer, relaxation in zip(layers, before):
            layer.relaxation = relaxation
            _forget_kernel(layer)


def relaxed_layers(network: nn.Module) -> dict[str, Relaxable]:
    """Every relaxed layer by its name in the network, in order."""
    return {n: layer for n, layer in network.named_modules() if isinstance(layer, Relaxable)}


def relaxations(network: nn.Module) -> dict[str, float]:
    """Theta of every relaxed layer that has one, by the layer's name."""
    layers = relaxed_layers(network).items()
    return {n: layer.relaxation.item() for n, layer in layers if layer.relaxation is not None}


def restore_relaxations(network: nn.Module, thetas: Mapping[str, float]) -> None:
    """Give every relaxed layer the theta that `relaxations` returned; free where it has none."""
    for name, layer in relaxed_layers(network).items():
        set_relaxation(layer, thetas.get(name))


def relaxation_penalty(network: nn.Module) -> Tensor:
    r"""Penalty that pulls relaxed layers towards strict ones: the sum of the layers' own.

    .. math:: \sum_{l, g, h} |w_l(g) - w_l(h)|
              \quad \text{or} \quad \mathrm{mean}_{y \sim z} |w(y) - w(z)|

    The first for layers relaxed over a group (`RelaxedLayer`), with w the relaxed weights
    [L, |G|] and g, h over all ordered pairs of elements; group biases [O, |G|] add a sum of the
    same kind. The second for weights that depend on the position (`RelaxedTranslationConv`, over
    the picture; `RelaxedSteerableConv`, over the kernel), with y and z neighbouring pixels along
    rows and columns. Neither is squared: the gradient does not fade as the weights come
    together, so a large enough factor makes them exactly equal. (An L1 distance, as a lasso's.)

    Args:
        network: any module; a module without relaxed layers has the penalty 0.

    Returns:
        A scalar, differentiable with respect to the relaxed weights.
    """
    total = next(network.parameters(), torch.empty(0)).new_zeros(())
    for layer in relaxed_layers(network).values():
        total = total + layer.relaxation_penalty()
    return total


def check_relaxation(theta: object) -> None:
    """Raise unless ``theta`` is None or a number from 0 to 1.

    Raises:
        TypeError, ValueError: with the rule, the value and a fix.
    """
    message = (
        "`relaxation`, the part of their departures that relaxed layers use, must be a number "
        f"from 0 (strict) to 1 (free), or null; got {theta!r}. Use model.relaxation=null for free "
        "layers, or e.g. model.relaxation=0.5."
    )
    if theta is None:
        return
    if not isinstance(theta, int | float) or isinstance(theta, bool):
        raise TypeError(message)
    if not 0 <= theta <= 1:
        raise ValueError(message)


def pairwise_differences(weights: Tensor) -> Tensor:
    """[..., |G|] -> [..., |G|, |G|]: |w(g) - w(h)| for all ordered pairs of elements."""
    return (weights[..., :, None] - weights[..., None, :]).abs()


def mean_neighbour_difference(maps: Tensor) -> Tensor:
    """Mean |w(y) - w(z)| over all maps [..., H, W] and pairs of pixels next to each other.

    Pairs along rows and along columns count alike; zero where there is a single pixel.
    """
    along_columns = (maps[..., 1:, :] - maps[..., :-1, :]).abs()
    along_rows = (maps[..., :, 1:] - maps[..., :, :-1]).abs()
    pairs = along_columns.numel() + along_rows.numel()
    return (along_columns.sum() + along_rows.sum()) / max(pairs, 1)


def relative_to_mean(difference: Tensor, weights: Tensor) -> Tensor:
    """``difference`` over the mean |w|; zero for a difference of zero, whatever the weights."""
    return difference / weights.abs().mean().clamp_min(torch.finfo(weights.dtype).tiny)


def _set(layer: Relaxable, theta: float | None) -> None:
    with torch.inference_mode(False), torch.no_grad():  # a tensor that training can use later
        if theta is None or layer.relaxation is None:
            weight = layer.weight
            layer.relaxation = None if theta is None else weight.new_full((), theta)
        else:
            layer.relaxation.fill_(theta)
    _forget_kernel(layer)


def _forget_kernel(layer: Relaxable) -> None:
    """A kept kernel is one of the theta before."""
    if hasattr(layer, "kernel_cache"):
        layer.kernel_cache.clear()
