"""Pooling of feature maps on a group: over the group, and over the plane."""

import torch.nn.functional as F
from torch import Tensor, nn

from src.checks import check_choice, check_integer, check_shape

MODES = ("max", "mean")
FEATURE_MAP = ("B", "C", "|G|", "H", "W")


class GroupPool(nn.Module):
    """Maximum (``"max"``) or ``"mean"`` over the group: [B, C, |G|, H, W] -> [B, C, H, W]."""

    def __init__(self, mode: str = "max") -> None:
        super().__init__()
        check_choice("mode", mode, MODES)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        check_shape(self, x, FEATURE_MAP, "on a group", "Put it after a group convolution.")
        return x.amax(2) if self.mode == "max" else x.mean(2)

    def extra_repr(self) -> str:
        return self.mode


class SpatialPool(nn.Module):
    """Maximum (``"max"``) or ``"mean"`` over windows of the plane, ``size`` pixels apart.

    [..., H, W] -> [..., H // size, W // size], of images [B, C, H, W] or feature maps on a group
    [B, C, |G|, H, W]. The windows are size x size pixels where that divides H and W. Otherwise
    they are H mod size and W mod size longer and overlap by as much, so that they lie
    symmetrically, from border to border: at every size exactly equivariant to quarter turns and
    mirror images, which windows that leave out the last rows and columns are not.
    """

    def __init__(self, size: int = 2, mode: str = "max") -> None:
        super().__init__()
        check_integer("size", size)
        check_choice("mode", mode, MODES)
        self.size = size
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 5:  # elements before channels, as in memory: see `ExpandedConv`
            pooled = self(x.transpose(1, 2).flatten(1, 2))
            return pooled.unflatten(1, (-1, x.shape[1])).transpose(1, 2)
        pool = F.max_pool2d if self.mode == "max" else F.avg_pool2d
        return pool(x, [self.size + length % self.size for length in x.shape[-2:]], self.size)

    def extra_repr(self) -> str:
        return f"{self.size}, {self.mode}"
