"""Classification networks: plain, strict on a group, relaxed; and the skeleton they share."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from src.checks import check_choice, check_integer, check_shape, wrong
from src.models.components.activations import make_activation
from src.models.components.gcnn import (
    Group,
    GroupBatchNorm,
    GroupConv,
    GroupPool,
    ImageBatchNorm,
    LiftingConv,
    RelaxedGroupConv,
    RelaxedLiftingConv,
    SpatialPool,
    make_group,
)
from src.models.components.gcnn.caching import channels_last
from src.models.components.gcnn.kernels import check_kernel_size
from src.models.components.gcnn.sequential import GroupSequential
from src.models.components.widths import count_parameters, resolve_widths

MakeConv = Callable[[int, int, bool], nn.Module]


class Classifier(nn.Module):
    """Blocks of convolution, norm, activation and max-pooling, then one linear layer.

    The last block's output is pooled to one number per channel (here the mean over the plane;
    networks on a group pool over it first), so the logits of a network with equivariant blocks
    are invariant.

    Args:
        make_conv: (in_channels, out_channels, is_first) -> a convolution without bias; its
            ``weight`` must hold a number of parameters proportional to in x out channels.
        make_norm: channels -> norm.
        in_channels: channels of the image.
        num_classes: number of logits.
        hidden_channels: channels of the layers, one number or one per layer.
        num_parameters: scale ``hidden_channels`` to this many parameters, within 3 %.
        num_layers: number of convolutions, at least two.
        pool_after: numbers of the layers (from 1) that a max-pooling by two follows, see
            `SpatialPool`.
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
        make_norm: Callable[[int], nn.Module],
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        hidden_channels: int | Sequence[int] = 10,
        num_parameters: int | None = None,
        num_layers: int = 6,
        pool_after: Sequence[int] = (2, 4),
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
        lifting, convolution = make_conv(1, 1, True), make_conv(1, 1, False)
        per_channel = count_parameters(make_norm(1))

        def count_conv(layer: nn.Module, i: int, o: int) -> int:
            size = layer.weight.numel()
            return i * o * size + count_parameters(layer) - size

        def count(widths: list[int]) -> int:
            total = count_conv(lifting, in_channels, widths[0]) + per_channel * sum(widths)
            total += sum(count_conv(convolution, i, o) for i, o in pairwise(widths))
            return total + (widths[-1] + 1) * num_classes

        widths = resolve_widths(hidden_channels, num_layers, num_parameters, count)
        blocks = []
        for number, (i, o) in enumerate(pairwise([in_channels, *widths]), start=1):
            layers = [make_conv(i, o, number == 1), make_norm(o), make_activation(activation)]
            if number in pool_after:
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

    def __init__(self, *, kernel_size: int = 3, **skeleton: Any) -> None:
        check_kernel_size(kernel_size)

        def make_conv(in_channels: int, out_channels: int, is_first: bool) -> nn.Module:
            return nn.Conv2d(in_channels, out_channels, kernel_size, padding="same", bias=False)

        super().__init__(make_conv, ImageBatchNorm, **skeleton)


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
        lifting: makes the first convolution, with the arguments of `LiftingConv`.
        convolution: makes the others, with the arguments of `GroupConv`.
        kernel_size: k, odd.
        interpolation: how kernels are turned, see `kernels.kernel_transform`.
        skeleton: the other arguments of `GroupClassifier`.
    """

    def __init__(
        self,
        lifting: Callable[..., nn.Module],
        convolution: Callable[..., nn.Module],
        *,
        group: str | Group = "c4",
        kernel_size: int = 3,
        interpolation: str = "bilinear",
        in_type: str = "scalar",
        **skeleton: Any,
    ) -> None:
        options = {"bias": False, "interpolation": interpolation}

        def make_conv(in_channels: int, out_channels: int, is_first: bool) -> nn.Module:
            make_layer = partial(lifting, in_type=in_type) if is_first else convolution
            return make_layer(in_channels, out_channels, kernel_size, group, **options)

        super().__init__(make_conv, group=group, in_type=in_type, **skeleton)


class GCNN(RotationClassifier):
    """Strictly equivariant network."""

    def __init__(self, **options: Any) -> None:
        super().__init__(LiftingConv, GroupConv, **options)


class RelaxedGCNN(RotationClassifier):
    """`GCNN` of relaxed layers of L filter banks: starts equivariant, and leaves as data ask."""

    def __init__(self, *, num_filter_banks: int = 2, **options: Any) -> None:
        banks = {"num_filter_banks": num_filter_banks}
        layers = partial(RelaxedLiftingConv, **banks), partial(RelaxedGroupConv, **banks)
        super().__init__(*layers, **options)
