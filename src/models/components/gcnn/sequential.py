"""A sequence of group layers that fit together."""

from itertools import pairwise

from torch import nn


class GroupSequential(nn.Sequential):
    """`nn.Sequential` that checks, when it is built, that consecutive group layers agree.

    Layers of different groups can have equal shapes (C8 and D4 have 8 elements each), so that
    a mismatch would not show at run time. Layers without a group (norm, activation, pooling)
    are passed over.

    Raises:
        ValueError: neighbours of different groups, or an output of other channels than the next
            layer takes.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        convolutions = [m for m in self.modules() if hasattr(m, "group") and m is not self]
        for first, second in pairwise(convolutions):
            _check_neighbours(first, second)


def _check_neighbours(first: nn.Module, second: nn.Module) -> None:
    if first.group != second.group:
        raise ValueError(
            "consecutive layers must have one group; got "
            f"{type(first).__name__} of {first.group.name} before "
            f"{type(second).__name__} of {second.group.name}. Give both the same `group`."
        )
    if first.out_channels != second.in_channels:
        raise ValueError(
            "a layer must take as many channels as the one before it gives; got "
            f"{first.out_channels} channels from {type(first).__name__} and `in_channels` = "
            f"{second.in_channels} in {type(second).__name__}. Make them equal."
        )
