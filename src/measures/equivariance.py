"""How far a network, and each of its layers, is from equivariant."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from src.models.components.checks import check_choice
from src.models.components.gcnn.actions import (
    transform_feature_map,
    transform_image,
    transform_vector_field,
)
from src.models.components.gcnn.groups import Group, make_group
from src.models.components.gcnn.kernels import IMAGE_INTERPOLATIONS

from .context import as_written, evaluation_mode, preserved_rng
from .recording import recorded_outputs

Batch = Tensor | Sequence[Tensor]
Output = Literal["invariant", "scalar", "vector", "regular"]
Input = Literal["scalar", "vector"]
Elements = Literal["all", "exact"]

_NETWORK = ""  # the name of the network itself among its layers


class EquivarianceErrors(NamedTuple):
    """Errors of a network (`overall`) and of each of its blocks (`per_layer`), by name."""

    overall: float
    per_layer: dict[str, float]


def equivariance_error(
    model: nn.Module,
    batches: Iterable[Batch],
    group: str | Group,
    *,
    output: Output = "invariant",
    input: Input = "scalar",
    interpolation: str = "bilinear",
    elements: Elements = "all",
) -> float:
    r"""Mean relative equivariance error of a network.

    .. math:: \mathrm{mean}_{x,\, g \neq e} \frac{\|f(g x) - g f(x)\|}{\|f(x)\|}

    Norms are those of one sample's whole output; every sample and every element counts the
    same, so the value does not depend on how samples are split into batches. A sample with
    f(x) = 0 counts as 0 if f(g x) = 0 too, and otherwise makes the mean infinite.

    The model is measured in eval mode, without gradients; its modes and all random states are
    afterwards what they were. For elements that do not map the pixel grid to itself the value
    contains what interpolation and the corners of the picture lose.

    Args:
        model: maps a batch [B, C, H, W] to outputs whose first axis is the batch.
        batches: tensors, or tuples (images, label, ...), on the model's device; at least one.
        group: a group of order 2 or more, or its name.
        output: how outputs transform: ``"invariant"`` (not at all: logits), ``"scalar"``
            (fields [B, C, H, W]), ``"vector"`` (fields [B, 2C, H, W], components turn too) or
            ``"regular"`` (group feature maps [B, C, |G|, H, W]).
        input: how inputs transform, ``"scalar"`` or ``"vector"``.
        interpolation: used for elements that do not map the pixel grid to itself.
        elements: ``"all"``, or ``"exact"``: only elements that map the pixel grid to itself.

    Returns:
        The error, without unit; 0 for an equivariant network.

    Raises:
        ValueError: no element other than the identity, no batch, an unknown option, or a shape
            that does not fit the representation.
    """
    action = _Action(group, interpolation)
    return _measure(model, batches, action, input, output, elements, layers={}).overall


def equivariance_errors_per_layer(
    model: nn.Module,
    batches: Iterable[Batch],
    group: str | Group,
    *,
    input: Input = "scalar",
    interpolation: str = "bilinear",
    elements: Elements = "all",
) -> dict[str, float]:
    """Equivariance error from the input to the output of each child of ``model.blocks``.

    The formula is `equivariance_error`'s, with f the part of the network up to that block. How
    its output transforms follows from its axes: five, a group feature map; four, scalar fields
    (also five with a single group element); two, invariants.

    Returns:
        Errors by name, ``"blocks.<child>"``, in order; empty for a model without ``blocks``.

    Raises:
        ValueError: as `equivariance_error`; also if a feature map belongs to another group, or
            a block's output was overwritten in place by a later module.
    """
    action = _Action(group, interpolation)
    return _measure(model, batches, action, input, "invariant", elements, _blocks(model)).per_layer


def equivariance_errors(
    model: nn.Module,
    batches: Iterable[Batch],
    group: str | Group,
    *,
    output: Output = "invariant",
    input: Input = "scalar",
    interpolation: str = "bilinear",
    elements: Elements = "all",
) -> EquivarianceErrors:
    """`equivariance_error` and `equivariance_errors_per_layer` from the same forward passes."""
    action = _Action(group, interpolation)
    return _measure(model, batches, action, input, output, elements, _blocks(model))


class _Action:
    """How elements of one group act on inputs and outputs."""

    def __init__(self, group: str | Group, interpolation: str) -> None:
        check_choice("interpolation", interpolation, IMAGE_INTERPOLATIONS)
        self.group = make_group(group)
        self.interpolation = interpolation

    def elements(self, which: str) -> list[int]:
        """Elements to measure with, never the identity."""
        check_choice("elements", which, get_args(Elements))
        exact = which == "exact"
        chosen = [g for g in range(1, self.group.order) if self.group.is_exact(g) or not exact]
        if not chosen:
            that = "that maps the pixel grid to itself, " if exact else ""
            raise ValueError(
                f"the equivariance error needs an element {that}other than the identity; group "
                f"{self.group.name!r} has none. Measure with 'c2', 'c4' or 'd4', for example"
                + (', or with elements="all".' if exact and self.group.order > 1 else ".")
            )
        return chosen

    def __call__(self, representation: str, x: Tensor, g: int) -> Tensor:
        """Act with element g on x, a stack of features of that representation."""
        if representation == "invariant":
            return x
        functions: dict[str, Callable[..., Tensor]] = {
            "scalar": transform_image,
            "vector": transform_vector_field,
            "regular": transform_feature_map,
        }
        return functions[representation](x, self.group, g, interpolation=self.interpolation)

    def check(self, representation: str, x: Tensor, what: str) -> None:
        """Raise unless x has the shape of that representation."""
        order = self.group.order
        shapes = {
            "invariant": ("[B, ...]", x.ndim >= 1),
            "scalar": ("[B, C, H, W]", x.ndim == 4 or (x.ndim == 5 and x.shape[2] == 1)),
            "vector": ("[B, 2 C, H, W]", x.ndim == 4 and x.shape[1] % 2 == 0),
            "regular": (f"[B, C, {order}, H, W]", x.ndim == 5 and x.shape[2] == order),
        }
        expected, fits = shapes[representation]
        if not fits:
            raise ValueError(
                f"{what} of kind {representation!r} under group {self.group.name!r} must be "
                f"{expected}; got {list(x.shape)}. Measure with the network's own group, and say "
                "how inputs and outputs transform."
            )


class _RunningMean:
    """Mean over all values given, each with the same weight."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, values: Tensor) -> None:
        self.total += values.sum().item()
        self.count += values.numel()

    def value(self) -> float:
        return self.total / self.count


def _measure(
    model: nn.Module,
    batches: Iterable[Batch],
    action: _Action,
    input: str,
    output: str,
    elements: str,
    layers: dict[str, nn.Module],
) -> EquivarianceErrors:
    """Run the model on every batch and every transformed batch; compare all outputs."""
    check_choice("input", input, get_args(Input))
    check_choice("output", output, get_args(Output))
    chosen = action.elements(elements)
    means = {name: _RunningMean() for name in (_NETWORK, *layers)}
    with (
        evaluation_mode(model),
        as_written(model),
        preserved_rng(),
        torch.no_grad(),
        recorded_outputs(layers) as recorded,
    ):
        for batch in batches:
            images = batch if isinstance(batch, Tensor) else batch[0]
            action.check(input, images, "the input")
            expected = {_NETWORK: model(images), **recorded.take()}
            kinds = {name: _representation(features) for name, features in expected.items()}
            kinds[_NETWORK] = output
            for name, kind in kinds.items():
                action.check(kind, expected[name], f"the output of {name or 'the network'}")
            for g in chosen:
                got = {_NETWORK: model(action(input, images, g)), **recorded.take()}
                for name, kind in kinds.items():
                    turned = action(kind, expected[name], g)
                    means[name].add(_relative_distance(got[name], turned, expected[name]))
    if means[_NETWORK].count == 0:
        raise ValueError(
            "the equivariance error needs at least one sample; got none. Pass a list of batches."
        )
    errors = {name: mean.value() for name, mean in means.items() if mean.count}
    return EquivarianceErrors(errors.pop(_NETWORK), errors)


def _relative_distance(got: Tensor, expected: Tensor, reference: Tensor) -> Tensor:
    """[B]: ||got - expected|| / ||reference||, 0 where got equals expected."""
    if got.shape != expected.shape:
        raise ValueError(
            "f(g x) and g f(x) must have the same shape; got "
            f"{list(got.shape)} and {list(expected.shape)}. Use a network whose output turns from "
            "[H, W] to [W, H] when its input does, or square inputs."
        )
    distance = torch.linalg.vector_norm((got - expected).flatten(1), dim=1)
    scale = torch.linalg.vector_norm(reference.flatten(1), dim=1)
    return (distance / scale).masked_fill(distance == 0, 0.0)


def _blocks(model: nn.Module) -> dict[str, nn.Module]:
    blocks = getattr(model, "blocks", None)
    return {} if blocks is None else {f"blocks.{n}": m for n, m in blocks.named_children()}


def _representation(features: Tensor) -> str:
    """How a block's output transforms, read off its axes; a wrong number fails the check."""
    if features.ndim == 5 and features.shape[2] > 1:
        return "regular"
    return "invariant" if features.ndim == 2 else "scalar"
