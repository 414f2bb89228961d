"""Batch norm of feature maps on a group."""

from torch import nn


class GroupBatchNorm(nn.BatchNorm3d):
    """Batch norm over (batch, group, space): one mean, variance, scale and shift per channel.

    Equivariant, because every group element of a channel is treated alike.

    Shapes:
        input and output [B, C, |G|, H, W].
    """
