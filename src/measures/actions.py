"""The action of group elements on inputs, outputs and feature maps of a network."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

from torch import Tensor, nn

from src.checks import check_choice
from src.models.components.gcnn.actions import (
    transform_feature_map,
    transform_image,
    transform_vector_field,
)
from src.models.components.gcnn.groups import Group, make_group, subgroup_names
from src.models.components.gcnn.restriction import Restriction

Batch = Tensor | Sequence[Tensor]
Output = Literal["invariant", "scalar", "vector", "vector+scalar", "regular"]
Input = Literal["scalar", "vector", "vector+scalar"]
Elements = Literal["all", "exact"]

_FIXES = {
    "invariant": "Let the network return one output per sample.",
    "scalar": "Give a list of batches; outputs without height and width are 'invariant'.",
    "vector": "Give two channels per vector, or measure them as 'scalar'.",
    "vector+scalar": "Give three channels for each vector and scalar, or measure them as 'scalar'.",
    "regular": "Measure with the network's own group; only 'scalar' and 'vector' fields turn "
    "under any other.",
}

FALLBACK_GROUP = "c4"  # of networks without a group


def images_of(batch: Batch) -> Tensor:
    """The images of a batch, which may come with labels."""
    return batch if isinstance(batch, Tensor) else batch[0]


def groups_of(model: nn.Module) -> dict[int, Group]:
    """The groups of a network and of its layers, by their orders; given by name or not."""
    groups = [getattr(module, "group", None) for module in model.modules()]
    found = [make_group(group) for group in groups if isinstance(group, str | Group)]
    return {group.order: group for group in reversed(found)}


def group_of(model: nn.Module) -> Group | None:
    """The group of a network, or else the smallest of its layers', which all of them contain."""
    own, groups = getattr(model, "group", None), groups_of(model)
    if isinstance(own, str | Group):
        return make_group(own)
    return groups[min(groups)] if groups else None


def group_to_use(
    model: nn.Module, group: str | Group | None, fallback: str | Group = FALLBACK_GROUP
) -> Group:
    """The group that was named; None: the network's own, or the fallback where that is trivial."""
    own = group_of(model)
    return make_group(group or (own if own and own.order > 1 else fallback))


def on_group(
    features: dict[str, Tensor], group: Group, groups: dict[int, Group]
) -> dict[str, Tensor]:
    """Feature maps as ones on a group, of a network whose layers have several, ``groups``.

    Maps on a larger group are restricted (see `Restriction`); others than those are left out.
    """
    if len(groups) < 2:
        return features
    found = {}
    for name, u in features.items():
        own = groups.get(u.shape[2]) if kind_of(u) == "regular" else group
        if own and group.name in subgroup_names(own):
            found[name] = u if own == group else Restriction(own, group).to(u.device)(u)
    return found


def known_fields(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outputs of blocks whose axes say how they transform: two, four or five of them."""
    return {name: features for name, features in outputs.items() if features.ndim in (2, 4, 5)}


def kind_of(features: Tensor) -> str:
    """How a block's output transforms, read off its axes; a wrong number fails `check_shape`."""
    if features.ndim == 5 and features.shape[2] > 1:
        return "regular"
    return "invariant" if features.ndim == 2 else "scalar"


def check_shape(kind: str, x: Tensor, what: str, order: int | None = None) -> None:
    """Raise a ValueError unless x has the shape of its kind; ``order``: elements of its group."""
    expected, fits = {
        "invariant": ("[B, ...]", x.ndim >= 1),
        "scalar": ("[B, C, H, W]", x.ndim == 4 or (x.ndim == 5 and x.shape[2] == 1)),
        "vector": ("[B, 2 C, H, W]", x.ndim == 4 and x.shape[1] % 2 == 0),
        "vector+scalar": ("[B, 3 C, H, W]", x.ndim == 4 and x.shape[1] % 3 == 0),
        "regular": (
            f"[B, C, {order or '|G|'}, H, W]",
            x.ndim == 5 and order in (None, x.shape[2]),
        ),
    }[kind]
    if not fits:
        raise ValueError(
            f"{what} of kind {kind!r} must be {expected}; got {list(x.shape)}. {_FIXES[kind]}"
        )


def chosen_elements(group: Group, which: str) -> list[int]:
    """Elements to measure with, never the identity: ``"all"``, or the ``"exact"`` ones."""
    check_choice("elements", which, get_args(Elements))
    chosen = [g for g in range(1, group.order) if which == "all" or group.is_exact(g)]
    if not chosen:
        raise ValueError(
            "the equivariance error needs an element other than the identity; group "
            f"{group.name!r} has none with elements={which!r}. Use 'c4' or 'd4'."
        )
    return chosen


def act(kind: str, x: Tensor, g: int, group: Group, interpolation: str) -> Tensor:
    """The features x, a stack of that kind, acted on by element g."""
    if kind == "invariant":
        return x
    functions: dict[str, Callable[..., Tensor]] = {
        "scalar": transform_image,
        "vector": transform_vector_field,
        "vector+scalar": partial(transform_vector_field, field_type="vector+scalar"),
        "regular": transform_feature_map,
    }
    return functions[kind](x, group, g, interpolation=interpolation)
