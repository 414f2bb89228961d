"""Classification networks: plain, strict on a group, relaxed."""

from typing import Any

from torch import Tensor, nn

from src.checks import check_integer
from src.models.components.classifier import Classifier, MakeConv
from src.models.components.gcnn.convolution.relaxed_rotation import RelaxedGroupConv
from src.models.components.gcnn.convolution.rotation import GroupConv
from src.models.components.gcnn.groups import Group, make_group
from src.models.components.gcnn.kernels import check_kernel_size
from src.models.components.gcnn.lifting.relaxed_rotation import RelaxedLiftingConv
from src.models.components.gcnn.lifting.rotation import LiftingConv
from src.models.components.gcnn.norm import GroupBatchNorm
from src.models.components.gcnn.pooling import GroupPool, SpatialPool


class CNN(Classifier):
    """Ordinary convolutions with batch norm, ELU and max-pooling; the mean over the plane.

    Args:
        kernel_size: k, odd. The others are `Classifier`'s.

    Shapes:
        input [B, in_channels, H, W]; output [B, num_classes]; blocks [B, C, H', W'].

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, *, kernel_size: int = 3, **skeleton: Any) -> None:
        check_kernel_size(kernel_size)

        def make_conv(in_channels: int, out_channels: int, is_first: bool) -> nn.Module:
            return nn.Conv2d(in_channels, out_channels, kernel_size, padding="same", bias=False)

        super().__init__(make_conv, nn.BatchNorm2d, nn.MaxPool2d, **skeleton)


class GroupClassifier(Classifier):
    """`Classifier` of feature maps on a group, pooled over the group before the plane.

    Args:
        make_conv: see `Classifier`; the first convolution lifts.
        group: a group or its name.
        group_pool: ``"max"`` or ``"mean"`` over the group.

    The others are `Classifier`'s.

    Shapes:
        input [B, in_channels, H, W]; output [B, num_classes]; blocks [B, C, |G|, H', W'].
    """

    def __init__(
        self,
        make_conv: MakeConv,
        *,
        group: str | Group,
        group_pool: str = "max",
        **skeleton: Any,
    ) -> None:
        super().__init__(make_conv, GroupBatchNorm, SpatialPool, **skeleton)
        self.group = make_group(group)
        self.group_pool = GroupPool(group_pool)

    def pool(self, features: Tensor) -> Tensor:
        """[B, C, |G|, H, W] -> [B, C]."""
        return super().pool(self.group_pool(features))


class GCNN(GroupClassifier):
    """Strictly equivariant network: a lifting convolution, then group convolutions.

    Args:
        group: a group or its name.
        kernel_size: k, odd.
        interpolation: how kernels are turned, see `kernels.kernel_transform`.

    The others are `GroupClassifier`'s and `Classifier`'s.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        *,
        group: str | Group = "c4",
        kernel_size: int = 3,
        interpolation: str = "bilinear",
        **skeleton: Any,
    ) -> None:
        options = {"bias": False, "interpolation": interpolation}

        def make_conv(in_channels: int, out_channels: int, is_first: bool) -> nn.Module:
            layer = LiftingConv if is_first else GroupConv
            return layer(in_channels, out_channels, kernel_size, group, **options)

        super().__init__(make_conv, group=group, **skeleton)


class RelaxedGCNN(GroupClassifier):
    """`GCNN` of relaxed layers: starts exactly equivariant, and leaves it as far as data ask.

    Args:
        group: a group or its name.
        kernel_size: k, odd.
        num_filter_banks: L, filter banks of each layer.
        interpolation: how kernels are turned, see `kernels.kernel_transform`.

    The others are `GroupClassifier`'s and `Classifier`'s.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        *,
        group: str | Group = "c4",
        kernel_size: int = 3,
        num_filter_banks: int = 2,
        interpolation: str = "bilinear",
        **skeleton: Any,
    ) -> None:
        check_integer("num_filter_banks", num_filter_banks)
        options = {"bias": False, "interpolation": interpolation}
        options["num_filter_banks"] = num_filter_banks

        def make_conv(in_channels: int, out_channels: int, is_first: bool) -> nn.Module:
            layer = RelaxedLiftingConv if is_first else RelaxedGroupConv
            return layer(in_channels, out_channels, kernel_size, group, **options)

        super().__init__(make_conv, group=group, **skeleton)
