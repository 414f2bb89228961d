"""The plain convolutional network: no symmetry but translation."""

from typing import Any

from torch import nn

from .classifier import Classifier
from .gcnn.kernels import check_kernel_size


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
