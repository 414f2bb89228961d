"""How group elements act on what goes into a network and what comes out of it."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

from torch import Tensor

from src.checks import check_choice
from src.models.components.gcnn.actions import (
    transform_feature_map,
    transform_image,
    transform_vector_field,
)
from src.models.components.gcnn.groups import Group, make_group
from src.models.components.gcnn.kernels import IMAGE_INTERPOLATIONS

Batch = Tensor | Sequence[Tensor]
Output = Literal["invariant", "scalar", "vector", "regular"]
Input = Literal["scalar", "vector"]
Elements = Literal["all", "exact"]

_FIXES = {
    "invariant": "Let the network return one output per sample.",
    "scalar": "Give a list of batches; outputs without height and width are 'invariant'.",
    "vector": "Give two channels per vector, or measure them as 'scalar'.",
    "regular": "Measure with the network's own group; only fields on the plane, 'scalar' and "
    "'vector', turn under any other.",
}


class GroupAction:
    """One group, acting on inputs and outputs of several kinds.

    Args:
        group: a group or its name.
        interpolation: used for elements that do not map the pixel grid to itself.

    Raises:
        ValueError: an unknown group or interpolation.
    """

    def __init__(self, group: str | Group, interpolation: str) -> None:
        check_choice("interpolation", interpolation, IMAGE_INTERPOLATIONS)
        self.group = make_group(group)
        self.interpolation = interpolation

    def elements(self, which: str) -> list[int]:
        """Elements to measure with, never the identity: ``"all"``, or the ``"exact"`` ones.

        Raises:
            ValueError: if there are none.
        """
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

    def __call__(self, kind: str, x: Tensor, g: int) -> Tensor:
        """Act with element g on x, a stack of features of that kind."""
        if kind == "invariant":
            return x
        functions: dict[str, Callable[..., Tensor]] = {
            "scalar": transform_image,
            "vector": transform_vector_field,
            "regular": transform_feature_map,
        }
        return functions[kind](x, self.group, g, interpolation=self.interpolation)

    def check(self, kind: str, x: Tensor, what: str) -> None:
        """Raise unless x has the shape of that kind.

        Raises:
            ValueError: if it has not.
        """
        order = self.group.order
        shapes = {
            "invariant": ("[B, ...]", x.ndim >= 1),
            "scalar": ("[B, C, H, W]", x.ndim == 4 or (x.ndim == 5 and x.shape[2] == 1)),
            "vector": ("[B, 2 C, H, W]", x.ndim == 4 and x.shape[1] % 2 == 0),
            "regular": (f"[B, C, {order}, H, W]", x.ndim == 5 and x.shape[2] == order),
        }
        expected, fits = shapes[kind]
        if not fits:
            raise ValueError(
                f"{what} of kind {kind!r} under group {self.group.name!r} must be {expected}; "
                f"got {list(x.shape)}. {_FIXES[kind]}"
            )


def images_of(batch: Batch) -> Tensor:
    """The images of a batch, which may come with labels."""
    return batch if isinstance(batch, Tensor) else batch[0]


def kind_of(features: Tensor) -> str:
    """How a block's output transforms, read off its axes; a wrong number fails the check."""
    if features.ndim == 5 and features.shape[2] > 1:
        return "regular"
    return "invariant" if features.ndim == 2 else "scalar"
