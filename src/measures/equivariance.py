"""How far a network, and each of its layers, is from equivariant."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from src.checks import check_choice
from src.measures.actions import Batch, Elements, GroupAction, Input, Output, images_of, kind_of
from src.measures.context import as_written, evaluation_mode, preserved_rng
from src.measures.distances import RunningMean, relative_distance
from src.measures.interpolation_floor import there_and_back
from src.measures.recording import blocks_of, recorded_outputs
from src.models.components.gcnn.groups import Group

_NETWORK = ""  # the name of the network itself among its layers
_FLOOR = "interpolation floor"  # not the name of a layer, which starts with "blocks."


class EquivarianceErrors(NamedTuple):
    """Errors of a network and of its blocks, and what interpolation alone does to its input.

    Attributes:
        overall: `equivariance_error` of the network.
        per_layer: `equivariance_errors_per_layer`, by name; empty if they were not asked for.
        floor: `interpolation_floor` of the same images and elements; 0 if all elements map the
            pixel grid to itself.
    """

    overall: float
    per_layer: dict[str, float]
    floor: float = 0.0


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
    comparison = _Comparison(group, interpolation, input, output, elements)
    return _mean(comparison.means(model, batches)[_NETWORK])


def equivariance_error_per_element(
    model: nn.Module,
    batches: Iterable[Batch],
    group: str | Group,
    *,
    output: Output = "invariant",
    input: Input = "scalar",
    interpolation: str = "bilinear",
) -> list[float]:
    """`equivariance_error` of each element by itself: with C_n a curve against the angle.

    The group need not be the network's own. ``"c36"`` measures a network on C4, or an ordinary
    one, every 10 degrees: element a turns by 2 pi a / 36. Invariants and fields on the plane
    turn under every group, but feature maps only under their own: ``output="regular"``, like
    `equivariance_errors_per_layer`, is for that one. It takes |G| forward passes. What
    interpolation alone loses at each element is `interpolation_floor_per_element`.

    Args:
        as `equivariance_error`.

    Returns:
        |G| numbers: number g is the mean over samples for element g, 0 for the identity.

    Raises:
        ValueError: as `equivariance_error`.
    """
    comparison = _Comparison(group, interpolation, input, output, "all")
    return [0.0, *comparison.means(model, batches)[_NETWORK]]


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
    comparison = _Comparison(group, interpolation, input, "invariant", elements)
    means = comparison.means(model, batches, blocks_of(model))
    return {name: _mean(values) for name, values in means.items() if name != _NETWORK}


def equivariance_errors(
    model: nn.Module,
    batches: Iterable[Batch],
    group: str | Group,
    *,
    output: Output = "invariant",
    input: Input = "scalar",
    interpolation: str = "bilinear",
    elements: Elements = "all",
    per_layer: bool = True,
) -> EquivarianceErrors:
    """`equivariance_error` and `equivariance_errors_per_layer` from the same forward passes.

    With them comes the `interpolation_floor` of the same images, at no cost where all elements
    map the pixel grid to itself. Args as for these, and ``per_layer``: whether to measure the
    blocks too.
    """
    comparison = _Comparison(group, interpolation, input, output, elements)
    layers = blocks_of(model) if per_layer else {}
    found = comparison.means(model, batches, layers, with_floor=True)
    means = {name: _mean(values) for name, values in found.items()}
    return EquivarianceErrors(means.pop(_NETWORK), floor=means.pop(_FLOOR), per_layer=means)


class _Comparison:
    """Of f(g x) with g f(x), for the chosen elements g of one group."""

    def __init__(
        self, group: str | Group, interpolation: str, input: str, output: str, elements: str
    ) -> None:
        check_choice("input", input, get_args(Input))
        check_choice("output", output, get_args(Output))
        self.action = GroupAction(group, interpolation)
        self.input = input
        self.output = output
        self.chosen = self.action.elements(elements)

    def means(
        self,
        model: nn.Module,
        batches: Iterable[Batch],
        layers: dict[str, nn.Module] | None = None,
        with_floor: bool = False,
    ) -> dict[str, list[float]]:
        """Means over samples, one for each element, of the network and of each layer by name."""
        layers = layers or {}
        names = [_NETWORK, *layers, *([_FLOOR] if with_floor else [])]
        means = {name: [RunningMean() for _ in self.chosen] for name in names}
        with (
            evaluation_mode(model),
            as_written(model),
            preserved_rng(),
            torch.no_grad(),
            recorded_outputs(layers) as recorded,
        ):

            def run(x: Tensor) -> dict[str, Tensor]:
                return {_NETWORK: model(x), **recorded.take()}

            for batch in batches:
                self._compare(run, images_of(batch), means)
        return {
            name: [mean.value() for mean in of_layer]
            for name, of_layer in means.items()
            if name == _NETWORK or of_layer[0].count
        }

    def _compare(
        self,
        run: Callable[[Tensor], dict[str, Tensor]],
        images: Tensor,
        means: dict[str, list[RunningMean]],
    ) -> None:
        """Add one batch; ``run`` gives the outputs of the network and of its layers by name."""
        self.action.check(self.input, images, "the input")
        expected = run(images)
        kinds = {name: kind_of(features) for name, features in expected.items()}
        kinds[_NETWORK] = self.output
        for name, kind in kinds.items():
            self.action.check(kind, expected[name], f"the output of {name or 'the network'}")
        for number, g in enumerate(self.chosen):
            got = run(self.action(self.input, images, g))
            for name, kind in kinds.items():
                turned = self.action(kind, expected[name], g)
                means[name][number].add(_distance(got[name], turned, expected[name]))
            if _FLOOR in means:
                means[_FLOOR][number].add(there_and_back(self.action, self.input, images, g))


def _distance(got: Tensor, expected: Tensor, reference: Tensor) -> Tensor:
    """`relative_distance` of f(g x) and g f(x), whose shapes must agree."""
    if got.shape != expected.shape:
        raise ValueError(
            "f(g x) and g f(x) must have the same shape; got "
            f"{list(got.shape)} and {list(expected.shape)}. Use a network whose output turns from "
            "[H, W] to [W, H] when its input does, or square inputs."
        )
    return relative_distance(got, expected, reference)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
