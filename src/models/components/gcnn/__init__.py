"""Strict and relaxed group convolutions, and what networks of them need."""

from src.models.components.gcnn.caching import kernels_built_once
from src.models.components.gcnn.convolution.rotation import GroupConv, RelaxedGroupConv
from src.models.components.gcnn.filter_banks import RelaxedLayer
from src.models.components.gcnn.groups import Group, make_group
from src.models.components.gcnn.kernels import kernel_transform
from src.models.components.gcnn.lifting.rotation import LiftingConv, RelaxedLiftingConv
from src.models.components.gcnn.norm import GroupBatchNorm, ImageBatchNorm, SampleNorm
from src.models.components.gcnn.pooling import GroupPool, SpatialPool
from src.models.components.gcnn.readout.rotation import RelaxedVectorReadout, VectorReadout

__all__ = [
    "Group",
    "GroupBatchNorm",
    "GroupConv",
    "GroupPool",
    "ImageBatchNorm",
    "LiftingConv",
    "RelaxedGroupConv",
    "RelaxedLayer",
    "RelaxedLiftingConv",
    "RelaxedVectorReadout",
    "SampleNorm",
    "SpatialPool",
    "VectorReadout",
    "kernel_transform",
    "kernels_built_once",
    "make_group",
]
