"""What all relaxed layers share: how relaxed they are, and how far they are from strict ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from src.checks import check_number
from src.models.components.gcnn.caching import ExpandedConv


class Relaxable(nn.Module):
    r"""Mixin of every relaxed layer: how much of its weights' departures from strict it uses.

    .. math:: \bar w + \theta\, (w - \bar w)

    stands in place of the weights w wherever the layer uses them, with w_bar their mean over what
    a strict layer shares them over (a group's elements, or positions). At theta = 1 the layer is
    free; at theta = 0 it is exactly strict: all the weights it uses are equal to the last bit.
    The gradient reaches departures from the mean times theta, and the mean in full. Subclasses
    define ``effective_weights``, ``relaxation_penalty`` and ``relaxed_weight_error``.

    Attributes:
        relaxation: theta, a tensor without axes, or None: free, at no cost. A parameter where it
            is learned (`learn_relaxations`), of either sign; else no buffer either: it is neither
            in ``state_dict`` nor averaged with the weights.
        shared_axes: names of the parameters w that a layer may have, each with the number of its
            last axes that a strict layer shares it over; 0: a strict layer lacks it, w_bar = 0.

    Reference: S. Pertigkiozoglou, E. Chatzipantazis, S. Trivedi, K. Daniilidis, Improving
    Equivariant Model Training via Constraint Relaxation, NeurIPS 2024.
    """

    relaxation: Tensor | None
    shared_axes: ClassVar[Mapping[str, int]] = {
        "relaxed_weights": 1,
        "group_biases": 1,
        "kernel_biases": 0,
        "free_kernel": 0,
    }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.relaxation = None

    @property
    def has_free_part(self) -> bool:
        """Whether the layer has any of these parameters; otherwise it is a strict one."""
        return any(getattr(self, name, None) is not None for name in self.shared_axes)

    def free_parameters(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Parameters w that hold what is free, each with its strict part, w_bar."""
        named = [(getattr(self, name, None), axes) for name, axes in self.shared_axes.items()]
        return [(p, _mean(p, axes)) for p, axes in named if p is not None]

    def departures(self) -> list[Tensor]:
        """theta (w - w_bar) of each of the `free_parameters`."""
        theta = 1.0 if self.relaxation is None else self.relaxation
        return [theta * (p - strict) for p, strict in self.free_parameters()]

    def kernel_parameters(self) -> tuple[Tensor, ...]:
        """What ``expanded_kernel`` is built from, theta among it where it is learned."""
        theta = self._parameters.get("relaxation")
        return super().kernel_parameters() + (() if theta is None else (theta,))

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        if self.relaxation is not None and "relaxation" not in self._parameters:
            self.relaxation = self.relaxation.to(self.weight)
        return self

    def _relaxed(self, weights: Tensor, num_axes: int = 1) -> Tensor:
        """The weights the layer uses, with w_bar the mean over the last ``num_axes`` axes."""
        if self.relaxation is None:
            return weights
        return torch.lerp(_mean(weights, num_axes), weights, self.relaxation.to(weights.dtype))


class PositionRelaxed(Relaxable):
    """Mixin of relaxed layers whose weights [..., H, W] depend on the position."""

    shared_axes: ClassVar[Mapping[str, int]] = {"relaxed_weights": 2}

    def relaxation_penalty(self) -> Tensor:
        """Mean |difference| of weights at neighbouring positions, along rows and columns, or 0."""
        w = self.effective_weights()
        along_columns = (w[..., 1:, :] - w[..., :-1, :]).abs()
        along_rows = (w[..., :, 1:] - w[..., :, :-1]).abs()
        pairs = along_columns.numel() + along_rows.numel()
        return (along_columns.sum() + along_rows.sum()) / max(pairs, 1)

    def relaxed_weight_error(self) -> Tensor:
        """`relaxation_penalty` over the mean |weight|; zero exactly when strict."""
        return relative_to_mean(self.relaxation_penalty(), self.effective_weights())


def set_relaxation(network: nn.Module, theta: float | None) -> None:
    """Set theta of all relaxed layers of a network, from 0 (strict) to 1, or None: free.

    Where a layer has a theta already its number is replaced in place, so that a compiled network
    is not compiled anew. ValueError if there is no relaxed layer for a theta.
    """
    check_relaxation(theta)
    if theta is not None:
        check_relaxable(network)
    with torch.inference_mode(False), torch.no_grad():  # a tensor that training can use later
        for layer in relaxed_layers(network).values():
            if theta is None or layer.relaxation is None:
                give_theta(layer, None if theta is None else layer.weight.new_full((), theta))
            else:
                layer.relaxation.fill_(theta)
                _forget_kernel(layer)


@contextmanager
def relaxed_by(network: nn.Module, theta: float | None) -> Iterator[nn.Module]:
    """Yield the network at another theta, then give each of its layers its own back."""
    layers = relaxed_layers(network).values()
    before = [layer.relaxation for layer in layers]
    try:
        for layer in layers:  # not in place: a graph may still need the tensors of before
            give_theta(layer, None)
        set_relaxation(network, theta)
        yield network
    finally:
        for layer, relaxation in zip(layers, before):
            give_theta(layer, relaxation)


def relaxed_layers(network: nn.Module) -> dict[str, Relaxable]:
    """Every relaxed layer in which something is free, by its name in the network, in order."""
    named = network.named_modules()
    return {n: m for n, m in named if isinstance(m, Relaxable) and m.has_free_part}


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
    same kind. The second for weights that depend on the position (`PositionRelaxed`), with y and
    z neighbouring pixels along rows and columns. Neither is squared: the gradient does not fade
    as the weights come together. Without relaxed layers the penalty is 0.
    """
    total = next(network.parameters(), torch.empty(0)).new_zeros(())
    for layer in relaxed_layers(network).values():
        total = total + layer.relaxation_penalty()
    return total


def check_relaxable(network: nn.Module) -> None:
    """Raise ValueError unless the network has a relaxed layer."""
    if not relaxed_layers(network):
        raise ValueError(
            "a relaxation needs a relaxed layer (`RelaxedGroupConv`, `RelaxedTranslationConv`, "
            f"...) with something free; got {type(network).__name__} without any. Use a relaxed "
            "network, such as model=rgcnn, or model.relaxation=null."
        )


def check_relaxation(theta: object) -> None:
    """Raise ValueError unless ``theta`` is None or a number from 0 (strict) to 1 (free)."""
    if theta is not None:
        fix = "model.relaxation=null for free layers, or e.g. model.relaxation=0.5"
        check_number("relaxation", theta, 0, 1, fix)


def pairwise_differences(weights: Tensor) -> Tensor:
    """[..., |G|] -> [..., |G|, |G|]: |w(g) - w(h)| for all ordered pairs of elements."""
    return (weights[..., :, None] - weights[..., None, :]).abs()


def relative_to_mean(difference: Tensor, weights: Tensor) -> Tensor:
    """``difference`` over the mean |w|; zero for a difference of zero, whatever the weights."""
    return difference / weights.abs().mean().clamp_min(torch.finfo(weights.dtype).tiny)


def give_theta(layer: Relaxable, theta: Tensor | None) -> None:
    """Give a layer this tensor as its theta; of a parameter as one of the layer's parameters."""
    for place in (layer._parameters, layer.__dict__):
        place.pop("relaxation", None)
    layer.relaxation = theta
    _forget_kernel(layer)


def _mean(weights: Tensor, num_axes: int) -> Tensor:
    """Mean over the last axes, which are kept; 0 over none."""
    if num_axes == 0:
        return weights.new_zeros(())
    axes = tuple(range(-num_axes, 0))
    first = weights[(..., *[slice(1)] * num_axes)]
    return first + (weights - first).mean(axes, keepdim=True)  # equal weights: to the last bit


def _forget_kernel(layer: Relaxable) -> None:
    if isinstance(layer, ExpandedConv):
        layer.kernel_cache.clear()
