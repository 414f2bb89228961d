"""A sequence of group layers that fit together."""

from itertools import pairwise

from torch import nn

from src.models.components.gcnn.caching import ExpandedConv


class GroupSequential(nn.Sequential):
    """`nn.Sequential` that checks, when it is built, that consecutive group layers agree.

    Layers of different groups can have equal shapes (C8 and D4 have 8 elements each), so that
    a mismatch would not show at run time. ValueError where groups or numbers of channels differ.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        convolutions = [m for m in self.modules() if isinstance(m, ExpandedConv)]
        for first, second in pairwise(convolutions):
            names = type(first).__name__, type(second).__name__
            if first.group != second.group:
                raise ValueError(
                    f"consecutive layers must have one group; got {names[0]} of "
                    f"{first.group.name} before {names[1]} of {second.group.name}. Give both the "
                    "same `group`."
                )
            if first.out_channels != second.in_channels:
                raise ValueError(
                    "a layer must take as many channels as the one before it gives; got "
                    f"{first.out_channels} channels from {names[0]} and `in_channels` = "
                    f"{second.in_channels} in {names[1]}. Make them equal."
                )
