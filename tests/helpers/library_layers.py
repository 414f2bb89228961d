"""Layers of e2cnn itself, which ours are compared with."""

import warnings

from e2cnn import nn as enn
from e2cnn.group import Representation


def library_layer(
    space, in_field: Representation, out_field: Representation, channels: tuple[int, int], k: int
) -> enn.R2Conv:
    """`e2cnn.nn.R2Conv` of (input, output) fields of one kind each, new and without bias."""
    in_channels, out_channels = channels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # e2cnn indexes with uint8 masks
        return enn.R2Conv(
            enn.FieldType(space, in_channels * [in_field]),
            enn.FieldType(space, out_channels * [out_field]),
            k,
            bias=False,
        )
