"""Turning windows of frames by elements of a group, on the device that they lie on."""

import torch
from torch import Generator, Tensor

from src.checks import wrong
from src.models.components.gcnn.actions import transform_each, transform_vector_field
from src.models.components.gcnn.groups import Group, make_group

FIELD_TYPES = {2: "vector", 3: "vector+scalar"}  # by the channels of a frame


def group_on_grid(augment: str) -> Group | None:
    """The group of that name, all of whose elements map square frames to themselves; None: none.

    Raises:
        ValueError: if the name is none of a group, or an element would interpolate.
    """
    if augment == "none":
        return None
    group = make_group(augment) if isinstance(augment, str) else None
    if group is None or not all(group.is_exact(element) for element in range(group.order)):
        rule = "none, or a group whose elements map the grid of a frame to itself"
        raise ValueError(wrong("augment", rule, augment, "data.augment=c4 or data.augment=d4"))
    return group


def turn_windows(windows: Tensor, group: Group, elements: Tensor) -> Tensor:
    """(g_b v_b)(t, x) = rho(g_b) v_b(t, g_b^-1 x): each window changed by an element of its own.

    Takes windows ``[B, T, 2, H, H]``, or ``[B, T, 3, H, H]`` with the density, which has no
    direction, and elements ``[B]``, which lie on the CPU.
    """
    field_type = FIELD_TYPES[windows.shape[2]]

    def turn(own: Tensor, element: int) -> Tensor:
        frames = own.flatten(0, 1)
        return transform_vector_field(frames, group, element, field_type=field_type).view_as(own)

    return transform_each(windows, elements, turn)


def turn_at_random(windows: Tensor, group: Group, generator: Generator) -> Tensor:
    """Change each window as `turn_windows` does, by an element drawn uniformly on the CPU."""
    elements = torch.randint(group.order, (len(windows),), generator=generator)
    return turn_windows(windows, group, elements)
