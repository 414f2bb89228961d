"""The networks of the benchmark, built of e2cnn's own layers."""

import warnings
from itertools import pairwise

from e2cnn import gspaces
from e2cnn import nn as enn
from torch import Tensor, nn


class LibraryNetwork(nn.Module):
    """e2cnn's convolutions, batch norms and ELUs, with tensors in and out.

    Args:
        group: name of a group of rotations.
        num_layers, kernel_size, channels: as in our networks; regular fields.

    Shapes:
        input [B, 1, H, W]; output [B, channels |G|, H, W].
    """

    def __init__(self, group: str, num_layers: int, kernel_size: int, channels: int) -> None:
        super().__init__()
        space = gspaces.Rot2dOnR2(int(group[1:]))
        self.in_type = enn.FieldType(space, [space.trivial_repr])
        fields = enn.FieldType(space, channels * [space.regular_repr])
        types = [self.in_type, *num_layers * [fields]]
        layers = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # e2cnn indexes with uint8 masks
            for i, o in pairwise(types):
                conv = enn.R2Conv(i, o, kernel_size, padding=kernel_size // 2, bias=False)
                layers += [conv, enn.InnerBatchNorm(o), enn.ELU(o, inplace=True)]
        self.blocks = nn.Sequential(_Wrap(self.in_type), *layers, _Unwrap())


class _Wrap(nn.Module):
    def __init__(self, fields: enn.FieldType) -> None:
        super().__init__()
        self.fields = fields

    def forward(self, x: Tensor) -> enn.GeometricTensor:
        return enn.GeometricTensor(x, self.fields)


class _Unwrap(nn.Module):
    def forward(self, x: enn.GeometricTensor) -> Tensor:
        return x.tensor
