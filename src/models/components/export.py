"""A trained network in plain operations of torch, which can be written as a file."""

import functools
from copy import deepcopy

import torch
from torch import Tensor, nn

from src.models.components.gcnn.caching import ExpandedConv
from src.models.components.gcnn.norm import GroupBatchNorm
from src.models.components.gcnn.pooling import SpatialPool


class FixedConv(nn.Module):
    """The convolution that an `ExpandedConv` is at present.

    Attributes:
        conv: an ordinary convolution with the expanded kernel.
        group, in_channels, out_channels, in_type, out_type: those of the layer.
    """

    def __init__(self, layer: ExpandedConv) -> None:
        super().__init__()
        self.group = layer.group
        self.in_channels, self.out_channels = layer.in_channels, layer.out_channels
        self.in_type, self.out_type = layer.in_type, layer.out_type
        kernel, bias = layer.expanded_kernel(), layer.expanded_bias()
        out_channels, in_channels, *size = kernel.shape
        options = {"stride": layer.stride, "padding": layer.padding, "bias": bias is not None}
        self.conv = nn.Conv2d(in_channels, out_channels, size, device="meta", **options)
        state = {"weight": kernel} if bias is None else {"weight": kernel, "bias": bias}
        self.conv.load_state_dict(state, assign=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.flatten(1, 2) if self.in_type == "regular" else x)
        return y.unflatten(1, (self.out_channels, -1)) if self.out_type == "regular" else y


class FlatNorm(nn.Module):
    """A `GroupBatchNorm` for |G| elements, with what is per channel repeated for each element."""

    def __init__(self, layer: GroupBatchNorm, order: int) -> None:
        super().__init__()
        self.order = order
        size = layer.num_features * order
        self.norm = nn.BatchNorm2d(size, layer.eps, layer.momentum, layer.affine)
        state = layer.state_dict().items()  # the number of batches has no axis to repeat
        repeated = {k: v.repeat_interleave(order) if v.dim() else v.clone() for k, v in state}
        self.norm.load_state_dict(repeated, assign=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(1, 2)).unflatten(1, (-1, self.order))


class AnySizePool(nn.Module):
    """`SpatialPool` in operations whose traces hold for any height and width.

    A window has s + r pixels along an axis of n s + r: the first s, and the next r of s - 1.
    """

    def __init__(self, layer: SpatialPool) -> None:
        super().__init__()
        self.size, self.mode = layer.size, layer.mode

    def forward(self, x: Tensor) -> Tensor:
        return self._along(self._along(x, []), [slice(None)])

    def _along(self, x: Tensor, after: list[slice]) -> Tensor:
        """Pool along one axis, which as many follow as there are slices."""
        size, length = self.size, x.shape[-1 - len(after)]
        rest = length % size
        span = length - rest - size + 1  # from the start of the first window to the last one's

        def pixel(number: int) -> Tensor:
            return x[(..., slice(number, number + span, size), *after)]

        pixels = [pixel(number) for number in range(size)]
        for extra in range(1, size):
            used = torch.sym_min(rest, extra)  # where there is no such pixel, the last one again
            is_there = used - torch.sym_min(rest, extra - 1)
            pixels.append(pixel(size - 1 + used) * (1 if self.mode == "max" else is_there))
        if self.mode == "mean":
            return sum(pixels) / (size + rest)
        return functools.reduce(torch.maximum, pixels)


@torch.no_grad()
def export(network: nn.Module) -> nn.Module:
    """Copy a network, with plain layers in the places of this project's, kernels expanded.

    Layers keep the shapes of their inputs and outputs, so whatever surrounds them works as before:
    skip connections, lists of modules, a forward of one's own. All else is copied as it is. The
    copy is in evaluation mode, in which it gives the network's outputs, and consists of
    operations of torch that `torch.export` and ONNX take. Trained further its convolutions are
    ordinary ones.

    Args:
        network: any network, of any group, dtype and device, in either mode.
    """
    copy = deepcopy(network)
    orders = {m.group.order for m in copy.modules() if isinstance(m, ExpandedConv)}
    plain = {layer: _plain_layer(layer, orders) for layer in copy.modules()}  # shared ones too
    for module in plain:
        for name, child in module._modules.items():
            module._modules[name] = plain.get(child, child)
    return plain[copy].eval()


def _plain_layer(layer: nn.Module, orders: set[int]) -> nn.Module:
    """What does the same as a layer of this project, in a network on groups of these orders."""
    if isinstance(layer, ExpandedConv) and type(layer).forward is ExpandedConv.forward:
        return FixedConv(layer)
    if type(layer) is GroupBatchNorm and layer.running_mean is not None and len(orders) == 1:
        return FlatNorm(layer, *orders)
    return AnySizePool(layer) if type(layer) is SpatialPool else layer
