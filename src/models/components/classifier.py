"""The skeleton that all classification networks share."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from src.checks import check_integer
from src.models.components.gcnn.sequential import GroupSequential
from src.models.components.widths import resolve_widths

MakeConv = Callable[[int, int, bool], nn.Module]


class Classifier(nn.Module):
    """Blocks of convolution, norm, ELU and max-pooling, then one linear layer.

    The last block's output is pooled to one number per channel (here the mean over the plane;
    networks on a group pool over it first), so the logits of a network with equivariant blocks
    are invariant.

    Args:
        make_conv: (in_channels, out_channels, is_first) -> a convolution without bias; its
            ``weight`` must hold a number of parameters proportional to in x out channels.
        make_norm: channels -> norm.
        make_pool: window -> spatial pooling.
        in_channels: channels of the image.
        num_classes: number of logits.
        hidden_channels: channels of the layers, one number or one per layer.
        num_parameters: scale ``hidden_channels`` to this many parameters, within 3 %.
        num_layers: number of convolutions, at least two.
        pool_after: numbers of the layers (from 1) that a 2 x 2 max-pooling follows.
        dropout: probability of dropping a feature before the linear layer.

    Attributes:
        blocks: one block per convolution; measures look at their outputs.

    Shapes:
        input [B, in_channels, H, W]; output [B, num_classes].

    Raises:
        ValueError: an argument out of range; at run time an input of the wrong shape.
    """

    def __init__(
        self,
        make_conv: MakeConv,
        make_norm: Callable[[int], nn.Module],
        make_pool: Callable[[int], nn.Module],
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        hidden_channels: int | Sequence[int] = 10,
        num_parameters: int | None = None,
        num_layers: int = 6,
        pool_after: Sequence[int] = (2, 4),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_integer("in_channels", in_channels)
        check_integer("num_classes", num_classes)
        check_integer("num_layers", num_layers, minimum=2)
        _check_probability("dropout", dropout)
        _check_pool_after(pool_after, num_layers)
        count = _parameter_counter(make_conv, make_norm, in_channels, num_classes)
        widths = resolve_widths(hidden_channels, num_layers, num_parameters, count)
        blocks = []
        for number, (i, o) in enumerate(zip([in_channels, *widths], widths), start=1):
            layers = [make_conv(i, o, number == 1), make_norm(o), nn.ELU(inplace=True)]
            if number in pool_after:
                layers.append(make_pool(2))
            blocks.append(nn.Sequential(*layers))
        self.in_channels = in_channels
        self.blocks = GroupSequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, num_classes]."""
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"input of {type(self).__name__} must have the shape [B, {self.in_channels}, H, W]"
                f"; got {list(x.shape)}. Change `in_channels` of the network, or the data."
            )
        return self.head(self.dropout(self.pool(self.blocks(x))))

    def pool(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C]."""
        return features.mean((-2, -1))


def _parameter_counter(
    make_conv: MakeConv, make_norm: Callable[[int], nn.Module], in_channels: int, num_classes: int
) -> Callable[[list[int]], int]:
    """Count parameters for given widths from layers of one channel, without building the rest."""
    lifting, convolution, norm = make_conv(1, 1, True), make_conv(1, 1, False), make_norm(1)
    per_channel = _num_parameters(norm)

    def count_conv(layer: nn.Module, i: int, o: int) -> int:
        size = layer.weight.numel()
        return i * o * size + _num_parameters(layer) - size

    def count(widths: list[int]) -> int:
        total = count_conv(lifting, in_channels, widths[0]) + per_channel * sum(widths)
        total += sum(count_conv(convolution, i, o) for i, o in pairwise(widths))
        return total + (widths[-1] + 1) * num_classes

    return count


def _num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _check_probability(name: str, value: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise ValueError(f"`{name}` must be at least 0 and below 1; got {value!r}. Use 0.0.")


def _check_pool_after(pool_after: Sequence[int], num_layers: int) -> None:
    for number in pool_after:
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= num_layers:
            raise ValueError(
                f"`pool_after` must hold numbers of layers, 1 to {num_layers}; got {number!r}. "
                "Use for example [2, 4]."
            )
