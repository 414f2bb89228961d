"""Batch norm of feature maps on a group."""

from torch import nn


class GroupBatchNorm(nn.BatchNorm3d):
    """Batch norm with one mean, variance, scale and shift per channel: equivariant."""
