"""A sequence of group layers that fit together."""

from torch import nn

from src.models.components.gcnn.caching import ExpandedConv
from src.models.components.gcnn.groups import Group
from src.models.components.gcnn.restriction import Restriction


class GroupSequential(nn.Sequential):
    """`nn.Sequential` that checks, when it is built, that consecutive group layers agree.

    Layers of different groups can have equal shapes (C8 and D4 have 8 elements each), so that
    a mismatch would not show at run time. ValueError where groups or numbers of channels differ;
    a `Restriction` between two layers changes both.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        before, group, channels = None, None, 0
        for layer in self.modules():
            if isinstance(layer, Restriction):
                if before is not None:
                    _check_group(before, group, layer, layer.in_group)
                group, channels = layer.group, channels * layer.index
            elif isinstance(layer, ExpandedConv):
                if before is not None:
                    _check_group(before, group, layer, layer.group)
                    _check_channels(before, channels, layer)
                before, group, channels = layer, layer.group, layer.out_channels


def _check_group(before: nn.Module, group: Group, layer: nn.Module, own: Group) -> None:
    names = type(before).__name__, type(layer).__name__
    if group != own:
        raise ValueError(
            f"consecutive layers must have one group; got {names[0]} of {group.name} before "
            f"{names[1]} of {own.name}. Give both the same `group`, or put a `Restriction` between."
        )


def _check_channels(before: nn.Module, channels: int, layer: ExpandedConv) -> None:
    names = type(before).__name__, type(layer).__name__
    if channels != layer.in_channels:
        raise ValueError(
            "a layer must take as many channels as the one before it gives; got "
            f"{channels} channels from {names[0]} and `in_channels` = "
            f"{layer.in_channels} in {names[1]}. Make them equal."
        )
