"""How far a network, and each of its layers, is from equivariant."""

from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn

from src.checks import check_choice
from src.measures.actions import (
    Batch,
    Elements,
    Input,
    Output,
    act,
    check_shape,
    chosen_elements,
    groups_of,
    images_of,
    kind_of,
    known_fields,
    on_group,
)
from src.measures.context import unchanged
from src.measures.distances import mean_over_samples, relative_distance
from src.measures.substitution import blocks_of, substituted_outputs
from src.models.components.gcnn.groups import Group, make_group
from src.models.components.gcnn.kernels import IMAGE_INTERPOLATIONS

_NETWORK = "the network"  # layers start with "blocks."


class EquivarianceErrors(NamedTuple):
    """Errors of a network and of its blocks.

    Attributes:
        overall: error of the network, mean over elements.
        per_layer: error of each block that runs once, by its name ``"blocks.<child>"``; empty
            for a model without ``blocks``. Blocks that run again and again have no figure.
        per_element: error of the network for each element g but the identity, mean over samples.
    """

    overall: float
    per_layer: dict[str, float]
    per_element: dict[int, float]


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
    r"""Mean relative equivariance error of a network, and of its blocks.

    .. math:: \mathrm{mean}_{x,\, g \neq e} \frac{\|f(g x) - g f(x)\|}{\|f(x)\|}

    Norms are those of one sample's whole output; every sample and every element counts the
    same, so the value does not depend on how samples are split into batches. A sample with
    f(x) = 0 counts as 0 if f(g x) = 0 too, and otherwise makes the mean infinite. For a block f
    is the part of the network up to it. How its output transforms follows from its axes: five, a
    group feature map; four, scalar fields (also five with a single element); two, invariants.

    The model is measured in eval mode, without gradients; its modes and all random states are
    afterwards what they were. For elements that do not map the pixel grid to itself the value
    contains what interpolation and the corners of the picture lose.

    The group need not be the network's own: ``"c36"`` measures a network on C4, or an ordinary
    one, every 10 degrees (element a turns by 2 pi a / 36). Invariants and fields on the plane
    turn under every group, but feature maps only under their own. Where layers have different
    groups, feature maps on a larger group than the measured one are read as maps on that one, and
    blocks without it have no figure.

    Args:
        model: maps a batch [B, C, H, W] to outputs whose first axis is the batch.
        batches: tensors, or tuples (images, label, ...), on the model's device; at least one.
        group: a group of order 2 or more, or its name.
        output: how outputs transform: ``"invariant"`` (not at all: logits), ``"scalar"``
            (fields [B, C, H, W]), ``"vector"`` (fields [B, 2C, H, W], components turn too),
            ``"vector+scalar"`` ([B, 3C, H, W], with a scalar behind each vector) or ``"regular"``
            (group feature maps [B, C, |G|, H, W]).
        input: how inputs transform, ``"scalar"``, ``"vector"`` or ``"vector+scalar"``.
        interpolation: for elements that do not map the pixel grid to itself.
        elements: ``"all"``, or ``"exact"``: only elements that map the pixel grid to itself.
        per_layer: whether to measure the blocks too, in the same forward passes.

    Returns:
        Errors without unit; 0 for an equivariant network.

    Raises:
        ValueError: no element other than the identity, no sample, an unknown option, or a shape
            that does not fit the representation.
    """
    check_choice("input", input, get_args(Input))
    check_choice("output", output, get_args(Output))
    check_choice("interpolation", interpolation, IMAGE_INTERPOLATIONS)
    group = make_group(group)
    chosen = chosen_elements(group, elements)
    groups = groups_of(model)
    action = partial(act, group=group, interpolation=interpolation)
    errors: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
    names = {_NETWORK: None}
    with (
        unchanged(model),
        torch.no_grad(),
        substituted_outputs(model, blocks_of(model) if per_layer else {}) as network,
    ):
        for batch in batches:
            images = images_of(batch)
            check_shape(input, images, "the input")
            y, features = network.keep(images)
            fields = on_group(known_fields(features), group, groups)
            expected = {_NETWORK: y, **fields}
            kinds = {_NETWORK: output} | {name: kind_of(u) for name, u in fields.items()}
            for name, kind in kinds.items():
                check_shape(kind, expected[name], f"the output of {name}", group.order)
                names[name] = None
            for g in chosen:
                y, features = network.keep(action(input, images, g))
                got = {_NETWORK: y, **on_group(known_fields(features), group, groups)}
                for name, kind in kinds.items():
                    turned = action(kind, expected[name], g)
                    if got[name].shape != turned.shape:
                        raise ValueError(
                            "f(g x) and g f(x) must have the same shape; got "
                            f"{list(got[name].shape)} and {list(turned.shape)}. Use square inputs, "
                            "or a network whose output turns from [H, W] to [W, H] with its input."
                        )
                    distance = relative_distance(got[name], turned, expected[name])
                    errors[name, g].append(distance)
    per_element = {n: {g: mean_over_samples(errors[n, g]) for g in chosen} for n in names}
    means = {name: sum(of.values()) / len(of) for name, of in per_element.items()}
    return EquivarianceErrors(
        overall=means.pop(_NETWORK), per_layer=means, per_element=per_element[_NETWORK]
    )


def equivariance_error(
    model: nn.Module, batches: Iterable[Batch], group: str | Group, **options: Any
) -> float:
    """The error of the network alone, ``equivariance_errors(...).overall``, with its options."""
    return equivariance_errors(model, batches, group, per_layer=False, **options).overall
