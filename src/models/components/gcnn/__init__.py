"""Strict and relaxed group convolutions, and what networks of them need."""

from .caching import kernels_built_once
from .convolution.relaxed_rotation import RelaxedGroupConv
from .convolution.rotation import GroupConv
from .groups import Group, make_group
from .kernels import kernel_transform
from .lifting.relaxed_rotation import RelaxedLiftingConv
from .lifting.rotation import LiftingConv
from .norm import GroupBatchNorm
from .pooling import GroupPool, SpatialPool
from .readout.relaxed_rotation import RelaxedVectorReadout
from .readout.rotation import VectorReadout
from .relaxed import RelaxedLayer

__all__ = [
    "Group",
    "GroupBatchNorm",
    "GroupConv",
    "GroupPool",
    "LiftingConv",
    "RelaxedGroupConv",
    "RelaxedLayer",
    "RelaxedLiftingConv",
    "RelaxedVectorReadout",
    "SpatialPool",
    "VectorReadout",
    "kernel_transform",
    "kernels_built_once",
    "make_group",
]
