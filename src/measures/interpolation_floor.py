"""What interpolation alone does to pictures that are turned there and back."""

from collections.abc import Iterable
from typing import get_args

import torch
from torch import Tensor

from src.checks import check_choice
from src.measures.actions import Batch, Elements, GroupAction, Input, images_of
from src.measures.distances import RunningMean, relative_distance
from src.models.components.gcnn.groups import Group


def interpolation_floor(
    batches: Iterable[Batch],
    group: str | Group,
    *,
    input: Input = "scalar",
    interpolation: str = "bilinear",
    elements: Elements = "all",
) -> float:
    r"""What turning pictures by a group element, and back again, loses of them.

    .. math:: \mathrm{mean}_{x,\, g \neq e} \frac{\|g^{-1} (g x) - x\|}{\|x\|}

    The equivariance error has two forms, which are equal as long as turning loses nothing:

    .. math:: \frac{\|f(g x) - g f(x)\|}{\|f(x)\|}
              \quad\text{and}\quad \frac{\|g^{-1} f(g x) - f(x)\|}{\|f(x)\|}

    `equivariance_error` is the first. For the identity network it is 0 whatever g, because both
    of its terms are interpolated alike, so it does not show what interpolation loses. The second
    form does: for the identity network, which nobody would call anything but equivariant, it is
    this floor. Pictures blur, and their corners leave the frame. To an element between the
    grid's own a network on that grid is equivariant only up to such losses: errors of about the
    floor or below say nothing against it.

    Args:
        batches: tensors, or tuples (images, label, ...); at least one sample.
        group: a group of order 2 or more, or its name.
        input: how images transform, ``"scalar"`` or ``"vector"``.
        interpolation: used for elements that do not map the pixel grid to itself.
        elements: ``"all"``, or ``"exact"``: only elements that map the pixel grid to itself.

    Returns:
        The floor, without unit. Elements that map the pixel grid to itself count as the 0 that
        they lose, so it is 0 if all of them do.

    Raises:
        ValueError: no element other than the identity, no sample, an unknown option, or a shape
            that does not fit the representation.
    """
    means = _means(batches, GroupAction(group, interpolation), input, elements)
    return sum(means) / len(means)


def interpolation_floor_per_element(
    batches: Iterable[Batch],
    group: str | Group,
    *,
    input: Input = "scalar",
    interpolation: str = "bilinear",
) -> list[float]:
    """`interpolation_floor` of each element by itself.

    Returns:
        |G| numbers: number g is the mean over samples; 0 for the identity and all other elements
        that map the pixel grid to itself.

    Raises:
        ValueError: as `interpolation_floor`.
    """
    return [0.0, *_means(batches, GroupAction(group, interpolation), input, "all")]


def there_and_back(action: GroupAction, kind: str, x: Tensor, g: int) -> Tensor:
    """||g^-1 (g x) - x|| / ||x|| of each sample, [B]; exactly 0 if g maps the grid to itself."""
    if action.group.is_exact(g):
        return torch.zeros(len(x), device=x.device)
    back = action(kind, action(kind, x, g), int(action.group.inverse[g]))
    return relative_distance(back, x, x)


@torch.no_grad()
def _means(batches: Iterable[Batch], action: GroupAction, input: str, elements: str) -> list[float]:
    """Mean over samples for each element."""
    check_choice("input", input, get_args(Input))
    means = {g: RunningMean() for g in action.elements(elements)}
    for batch in batches:
        images = images_of(batch)
        action.check(input, images, "the input")
        for g, mean in means.items():
            mean.add(there_and_back(action, input, images, g))
    return [mean.value() for mean in means.values()]
