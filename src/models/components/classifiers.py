"""Classification networks: plain, strict on a group, relaxed; and the skeleton they share."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from src.checks import check_choice, check_integer, check_shape, wrong
from src.models.components.activations import make_activation
from src.models.components.gcnn import (
    Group,
    GroupBatchNorm,
    GroupPool,
    ImageBatchNorm,
    SpatialPool,
    make_group,
)
from src.models.components.gcnn.caching import ExpandedConv, channels_last
from src.models.components.gcnn.initial import ImageConv
from src.models.components.gcnn.kernels import check_kernel_size
from src.models.components.gcnn.norm import choose_norm
from src.models.components.gcnn.restriction import groups_of_layers, restricted
from src.models.components.gcnn.sequential import GroupSequential
from src.models.components.rotation import Layers, RelaxedNetwork
from src.models.components.widths import conv_counter, count_parameters, resolve_widths

MakeConv = Callable[[int, int, int], nn.Module]


class Classifier(nn.Module):
    """Blocks of convolution, norm, activation and max-pooling, then one linear layer.

    The last block's output is pooled to one number per channel (here the mean over the plane;
    networks on a group pool over it first), so the logits of a network with equivariant blocks
    are invariant.

    Args:
        make_conv: (in_channels, out_channels, place) -> the convolution at that place, 0 for the
            first; the number of its parameters must be as for `conv_counter`.
        batch_norm: channels -> norm, for ``norm="batch"``.
        in_channels: channels of the image.
        num_classes: number of logits.
        hidden_channels: channels of the layers, one number or one per layer.
        num_parameters: scale ``hidden_channels`` to this many parameters, within 3 %.
        num_macs: scale ``hidden_channels`` to this many multiply-accumulates per image instead
            (`src.measures.macs`), within 3 %.
        image_size: height and width of the images that ``num_macs`` is of.
        num_layers: number of convolutions, at least two.
        pool_after: numbers of the layers (from 1) that a max-pooling by two follows, see
            `SpatialPool`.
        norm: ``"batch"``, ``"group"`` (`SampleNorm`) or ``"none"``, before each activation.
        activation: see `make_activation`.
        dropout: probability of dropping a feature before the linear layer.

    Attributes:
        blocks: one block per convolution; measures look at their outputs.

    Shapes:
        input [B, in_channels, H, W]; output [B, num_classes].
    """

    def __init__(
        self,
        make_conv: MakeConv,
        batch_norm: Callable[[int], nn.Module],
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        hidden_channels: int | Sequence[int] = 10,
        num_parameters: int | None = None,
        num_macs: int | None = None,
        image_size: Sequence[int] = (28, 28),
        num_layers: int = 6,
        pool_after: Sequence[int] = (2, 4),
        norm: str = "batch",
        activation: str = "silu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_integer("in_channels", in_channels)
        check_integer("num_classes", num_classes)
        check_integer("num_layers", num_layers, minimum=2)
        for number in pool_after:
            if number not in range(1, num_layers + 1):
                rule = f"numbers of layers, 1 to {num_layers}"
                raise ValueError(wrong("pool_after", rule, number, "for example [2, 4]"))
        make_norm = choose_norm(norm, batch_norm)
        places = range(num_layers)
        # Two draws move the random state: without them seeds would mean other networks than before.
        smallest = [make_conv(1, 1, place) for place in places[:2]]
        with torch.random.fork_rng(devices=[]):
            smallest += [make_conv(1, 1, place) for place in places[2:]]
        counters = [conv_counter(partial(make_conv, place=place)) for place in places]
        per_channel = count_parameters(make_norm(1))

        def count(widths: list[int]) -> int:
            pairs = pairwise([in_channels, *widths])
            total = sum(counter(i, o) for counter, (i, o) in zip(counters, pairs))
            return total + per_channel * sum(widths) + (widths[-1] + 1) * num_classes

        per_pair = []  # MACs of each layer with one input and one output channel
        for place, conv in enumerate(smallest):
            shrunk = 2 ** len({pool for pool in pool_after if pool <= place})
            per_pair.append(
                _kernel(conv).numel() * math.prod(length // shrunk for length in image_size)
            )

        def macs(widths: list[int]) -> int:
            pairs = pairwise([in_channels, *widths])
            return sum(m * i * o for m, (i, o) in zip(per_pair, pairs)) + widths[-1] * num_classes

        if num_macs is not None and num_parameters is not None:
            fix = "num_parameters=null"
            raise ValueError(wrong("num_macs", "given without num_parameters", num_macs, fix))
        goal = (num_parameters, count) if num_macs is None else (num_macs, macs, "num_macs")
        widths = resolve_widths(hidden_channels, num_layers, *goal)
        blocks = []
        for place, (i, o) in enumerate(pairwise([in_channels, *widths])):
            layers = [make_conv(i, o, place), make_norm(o), make_activation(activation)]
            if place + 1 in pool_after:
                layers.append(SpatialPool(2))
            blocks.append(nn.Sequential(*layers))
        self.in_channels = in_channels
        self.blocks = GroupSequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        fix = "Change `in_channels` of the network, or the data."
        check_shape(self, x, ("B", self.in_channels, "H", "W"), "images", fix)
        return self.head(self.dropout(self.pool(self.blocks(channels_last(x)))))

    def pool(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C]."""
        return features.mean((-2, -1))


class CNN(Classifier):
    """Ordinary convolutions of k x k pixels, k odd; blocks give [B, C, H', W']."""

    def __init__(self, *, kernel_size: int = 3, norm: str = "batch", **skeleton: Any) -> None:
        check_kernel_size(kernel_size)
        options = {"padding": "same", "bias": norm == "none"}

        def make_conv(in_channels: int, out_channels: int, place: int) -> nn.Module:
            return ImageConv(in_channels, out_channels, kernel_size, **options)

        super().__init__(make_conv, ImageBatchNorm, norm=norm, **skeleton)


class GroupClassifier(Classifier):
    """`Classifier` of feature maps on a group, pooled over the group before the plane.

    Args:
        make_conv: see `Classifier`; the first convolution lifts.
        group: a group or its name.
        in_channels: channels of the image, for vectors two each.
        in_type: how images transform, ``"scalar"`` or ``"vector"``, as in `LiftingConv`; the first
            convolution must be of that type.
        group_pool: ``"max"`` or ``"mean"`` over the group.
        skeleton: the other arguments of `Classifier`.

    Shapes:
        as `Classifier`; blocks [B, C, |G|, H', W'].
    """

    def __init__(
        self,
        make_conv: MakeConv,
        *,
        group: str | Group,
        in_channels: int = 1,
        in_type: str = "scalar",
        group_pool: str = "max",
        **skeleton: Any,
    ) -> None:
        group = make_group(group)
        check_choice("in_type", in_type, ("scalar", "vector"))
        num_fields, rest = divmod(in_channels, group.fibre_size(in_type))
        if rest:
            fix = "2, or in_type='scalar'"
            raise ValueError(wrong("in_channels", "two for each vector", in_channels, fix))
        super().__init__(make_conv, GroupBatchNorm, in_channels=num_fields, **skeleton)
        self.in_channels = in_channels
        self.group = group
        self.group_pool = GroupPool(group_pool)

    def pool(self, features: Tensor) -> Tensor:
        """[B, C, |G|, H, W] -> [B, C]."""
        return super().pool(self.group_pool(features))


class RotationClassifier(GroupClassifier):
    """`GroupClassifier` whose kernels are turned.

    Args:
        layers: what makes the convolutions.
        group: a group or its name, or one for each layer, see `groups_of_layers`; the network's
            own is the last, which all layers contain.
        kernel_size: k, odd.
        interpolation: how kernels are turned, see `kernels.kernel_transform`.
        skeleton: the other arguments of `GroupClassifier`.
    """

    def __init__(
        self,
        layers: Layers,
        *,
        group: str | Group | Sequence[str | Group] = "c4",
        kernel_size: int = 3,
        interpolation: str = "bilinear",
        in_type: str = "scalar",
        norm: str = "batch",
        num_layers: int = 6,
        **skeleton: Any,
    ) -> None:
        options = {"bias": norm == "none", "interpolation": interpolation}
        groups = groups_of_layers(group, num_layers)

        def make_conv(in_channels: int, out_channels: int, place: int) -> nn.Module:
            sizes = in_channels, out_channels, kernel_size
            if place == 0:
                return layers.lifting(*sizes, groups[0], in_type=in_type, **options)
            return restricted(layers.convolution, *sizes, groups[place - 1 : place + 1], **options)

        skeleton |= {"num_layers": num_layers, "in_type": in_type, "norm": norm}
        super().__init__(make_conv, group=groups[-1], **skeleton)


class GCNN(RotationClassifier):
    """Strictly equivariant network."""

    def __init__(self, **options: Any) -> None:
        super().__init__(Layers(), **options)


class RelaxedGCNN(RelaxedNetwork, RotationClassifier):
    """`GCNN` of relaxed layers; arguments say what is free: see `RelaxedNetwork`."""


def _kernel(layer: nn.Module) -> Tensor:
    """The weight that a convolution convolves with, behind a restriction or not."""
    conv = layer[-1] if isinstance(layer, nn.Sequential) else layer
    return conv.expanded_kernel() if isinstance(conv, ExpandedConv) else conv.weight
