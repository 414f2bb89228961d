"""Networks that forecast velocity fields on several scales at once: plain, on a group, relaxed."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.checks import check_integer, wrong
from src.models.components.forecasters import (
    CNNForecaster,
    GCNNForecaster,
    RelaxedGCNNForecaster,
)
from src.models.components.gcnn import Group, SpatialPool


class UShape:
    """Mixin that makes a U-Net of a `Forecaster`: two blocks per level, down, and up again.

    Each level down halves the plane by `SpatialPool` (the maximum over 2 x 2 pixels) and doubles
    the channels; each level up goes back to the plane of that level by bilinear interpolation and
    takes the features that were left there beside it. Both are exactly equivariant to quarter
    turns and mirror images, at every size of the frames.

    Convolutions of two maps side by side have ``in_parts``, the channels of each.

    Args:
        num_levels: levels; the smallest plane has a 2^(num_levels - 1)th of the frames' side.
        hidden_channels: channels at the first level; with ``num_parameters`` they follow from it.
        forecaster: the other arguments of the forecaster, but for ``num_layers``.

    Reference: O. Ronneberger, P. Fischer, T. Brox, U-Net, MICCAI 2015; here with two blocks of one
    convolution each per level, as there, and with padding.
    """

    blocks: nn.ModuleList

    def __init__(self, *, num_levels: int = 3, hidden_channels: int = 4, **forecaster: Any) -> None:
        check_integer("num_levels", num_levels)
        check_integer("hidden_channels", hidden_channels)
        group = forecaster.get("group", "c4")
        if not isinstance(group, str | Group):
            raise ValueError(wrong("group", "one for all levels of a U-Net", group, "c4"))
        levels = _levels(num_levels)
        widths = [hidden_channels * 2**level for level in levels]
        super().__init__(hidden_channels=widths, num_layers=len(widths) + 1, **forecaster)
        self.num_levels = num_levels
        self.pool = SpatialPool(2)
        for place in range(1, len(widths)):
            if levels[place] < levels[place - 1]:  # what was left, and what comes up
                conv, above = self.blocks[place][0], self.blocks[place - 1][0].out_channels
                conv.in_parts = (conv.in_channels - above, above)

    def channel_pairs(self, num_inputs: int, widths: list[int]) -> list[tuple[int, int]]:
        """Channels in and out of each block; the first of a level up takes those left there too."""
        levels = _levels(len(widths) // 4 + 1)
        pairs, left = list(pairwise([num_inputs, *widths])), []
        for block, (level, before) in enumerate(zip(levels[1:], levels), start=1):
            if level > before:
                left.append(widths[block - 1])
            elif level < before:
                pairs[block] = (pairs[block][0] + left.pop(), widths[block])
        return pairs

    def joined(self, blocks: list[nn.Module]) -> nn.Module:
        """The blocks in the order in which they run."""
        return nn.ModuleList(blocks)

    def features(self, x: Tensor) -> Tensor:
        """[B, 2 T, H, W] -> features of the first level, [B, C, ..., H, W]."""
        levels = _levels(self.num_levels)
        left = []
        for block, level, before in zip(self.blocks, levels, [0, *levels]):
            if level > before:
                left.append(x)
                x = self.pool(x)
            elif level < before:
                x = _beside(left.pop(), x)
            x = block(x)
        return x


class UNetForecaster(UShape, CNNForecaster):
    """U-Net of ordinary convolutions."""


class GroupUNetForecaster(UShape, GCNNForecaster):
    """Strictly equivariant U-Net."""


class RelaxedGroupUNetForecaster(UShape, RelaxedGCNNForecaster):
    """`GroupUNetForecaster` of relaxed layers: starts exactly equivariant, and may leave it."""


def _levels(num_levels: int) -> Sequence[int]:
    """The level of each block: 0 0 1 1 2 2 1 1 0 0."""
    down = range(num_levels)
    return [level for level in (*down, *reversed(down[:-1])) for _ in range(2)]


def _beside(left: Tensor, small: Tensor) -> Tensor:
    """Features of two planes, the small one enlarged: [B, C1 + C2, ..., H, W]."""
    size = left.shape[-2:]
    if small.dim() == 5:  # elements before channels, as in memory: see `ExpandedConv`
        order = [v.transpose(1, 2) for v in (left, small)]
        large = F.interpolate(order[1].flatten(1, 2), size=size, mode="bilinear")
        large = large.unflatten(1, order[1].shape[1:3])
        return torch.cat((order[0], large), 2).transpose(1, 2)
    return torch.cat((left, F.interpolate(small, size=size, mode="bilinear")), 1)
