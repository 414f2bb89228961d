"""Pooling of feature maps on a group: over the group, and over the plane."""

import torch.nn.functional as F
from torch import Tensor, nn

from src.checks import check_choice, check_integer

MODES = ("max", "mean")


class GroupPool(nn.Module):
    """Maximum or mean over the group: from a group feature map to scalar fields.

    Args:
        mode: ``"max"`` or ``"mean"``.

    Shapes:
        input [B, C, |G|, H, W]; output [B, C, H, W].

    Raises:
        ValueError: unknown mode; at run time an input that is not 5-dimensional.
    """

    def __init__(self, mode: str = "max") -> None:
        super().__init__()
        check_choice("mode", mode, MODES)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        _check_feature_map(self, x)
        return x.amax(2) if self.mode == "max" else x.mean(2)

    def extra_repr(self) -> str:
        return self.mode


class SpatialPool(nn.Module):
    """Maximum or mean over windows of size x size pixels, at stride ``size``.

    Exactly equivariant to quarter turns and mirror images where height and width are multiples
    of ``size``, so that the windows are mapped to windows.

    Args:
        size: height, width and stride of the windows.
        mode: ``"max"`` or ``"mean"``.

    Shapes:
        input [B, C, |G|, H, W]; output [B, C, |G|, H // size, W // size].

    Raises:
        ValueError: unknown mode or size below 1; at run time an input not 5-dimensional.
    """

    def __init__(self, size: int = 2, mode: str = "max") -> None:
        super().__init__()
        check_integer("size", size)
        check_choice("mode", mode, MODES)
        self.size = size
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        _check_feature_map(self, x)
        pool = F.max_pool2d if self.mode == "max" else F.avg_pool2d
        return pool(x.flatten(1, 2), self.size).unflatten(1, x.shape[1:3])

    def extra_repr(self) -> str:
        return f"{self.size}, {self.mode}"


def _check_feature_map(layer: nn.Module, x: Tensor) -> None:
    if x.dim() != 5:
        raise ValueError(
            f"input of {type(layer).__name__} must have the shape [B, C, |G|, H, W]; "
            f"got {list(x.shape)}. Put it after a lifting or group convolution."
        )
