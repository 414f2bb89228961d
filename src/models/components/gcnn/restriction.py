"""From a group to one of its subgroups: feature maps, and layers that take them."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from src.checks import check_shape, wrong
from src.models.components.gcnn.groups import Group, make_group, subgroup_elements


class Restriction(nn.Module):
    r"""Read a feature map on a group G as one on a subgroup K. Exactly equivariant to K.

    .. math:: y_{(j, c)}(x, k) = f_c(x, k\, c_j), \qquad G = \bigcup_j K c_j

    The elements of G are those of the right cosets K c_j, and k' in K takes the entry at k c_j to
    k' k c_j: each coset is a channel on K. Nothing is lost, and nothing computed.

    Args:
        in_group: G, a group or its name.
        group: K; ValueError unless it is a subgroup of G.

    Attributes:
        index: number of cosets, |G| / |K|.

    Shapes:
        [B, C, |G|, H, W] -> [B, C |G| / |K|, |K|, H, W].
    """

    def __init__(self, in_group: str | Group, group: str | Group) -> None:
        super().__init__()
        self.in_group, self.group = make_group(in_group), make_group(group)
        elements = subgroup_elements(self.in_group, self.group)
        cosets = self.in_group.cayley[elements]  # [k, c]: k c
        smallest, seen = cosets.amin(0), range(self.in_group.order)
        firsts = [c for c in seen if smallest[c] == c]  # a coset's name is its first element
        self.index = len(firsts)
        self.source = cosets[:, firsts].flatten()  # of the entry (k, j)
        self.moves = not torch.equal(self.source, torch.arange(self.in_group.order))

    def forward(self, x: Tensor) -> Tensor:
        fix = "Put it after a layer on `in_group`."
        check_shape(self, x, ("B", "C", self.in_group.order, "H", "W"), self.in_group.name, fix)
        x = x.permute(0, 3, 4, 2, 1)  # as in memory, see `ExpandedConv`
        if self.moves:
            x = x.index_select(3, self.source)
        return x.unflatten(3, (-1, self.index)).flatten(4).permute(0, 4, 3, 1, 2)

    def extra_repr(self) -> str:
        return f"{self.in_group.name}, {self.group.name}"

    def _apply(self, fn, recurse=True):
        """Move the table along; it is no buffer, see `ExpandedConv`."""
        super()._apply(fn, recurse)
        self.source = self.source.to(fn(torch.empty(0)).device)
        return self


def restricted(
    make: Callable[..., nn.Module],
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    groups: Sequence[Group],
    **options: Any,
) -> nn.Module:
    """A layer on the second of two groups that takes feature maps on the first, which contains it.

    The layer that ``make`` makes where both are the same; otherwise behind a `Restriction`.
    """
    in_group, group = groups
    if in_group == group:
        return make(in_channels, out_channels, kernel_size, group, **options)
    restriction = Restriction(in_group, group)
    layer = make(in_channels * restriction.index, out_channels, kernel_size, group, **options)
    return nn.Sequential(restriction, layer)


def groups_of_layers(group: str | Group | Sequence[str | Group], num_layers: int) -> list[Group]:
    """The group of each layer.

    Args:
        group: one for all layers, or one for each, of which each is a subgroup of the one before.
        num_layers: number of layers.

    Raises:
        ValueError: a wrong number of groups, or one that is no subgroup of the one before.
    """
    if isinstance(group, str | Group) or not isinstance(group, Sequence):
        return num_layers * [make_group(group)]
    if len(group) != num_layers:
        rule = f"one group, or one for each of {num_layers} layers"
        raise ValueError(wrong("group", rule, list(group), f"{num_layers} names, such as 'c4'"))
    groups = [make_group(g) for g in group]
    for before, after in pairwise(groups):
        subgroup_elements(before, after)
    return groups
