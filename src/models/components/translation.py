"""Relaxed translation convolution: filter banks mixed anew at every position."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.checks import check_integer, check_shape, wrong
from src.models.components.gcnn.base import padding_pixels
from src.models.components.gcnn.initial import kernel_bound
from src.models.components.gcnn.kernels import check_kernel_size
from src.models.components.gcnn.relaxation import PositionRelaxed


class RelaxedTranslationConv(PositionRelaxed):
    r"""Convolution whose kernel may change from place to place.

    .. math:: y(x) = b + \sum_l w_l(x)\, (\psi_l * f)(x)

    All maps w_l start at 1 / L: a new layer is the convolution with the mean of its banks, and
    exactly equivariant to translations (up to the borders of the picture).

    Args:
        in_channels, out_channels: I and O.
        kernel_size: k, odd.
        grid_size: (H, W) of the input.
        num_filter_banks: L.
        padding: ``"same"`` (k // 2 on each side), ``"valid"`` (none) or a number of pixels.
        bias: whether to add one number per output channel.

    Shapes:
        input [B, I, H, W]; output [B, O, H', W']; ``weight`` [L, O, I, k, k],
        ``relaxed_weights`` [L, H', W'].

    Reference: as `RelaxedLayer`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        grid_size: Sequence[int],
        *,
        num_filter_banks: int = 2,
        padding: str | int = "same",
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_integer("in_channels", in_channels)
        check_integer("out_channels", out_channels)
        check_kernel_size(kernel_size)
        check_integer("num_filter_banks", num_filter_banks)
        self.padding = padding_pixels(padding, kernel_size)
        lost = kernel_size - 1 - 2 * self.padding
        is_sequence = isinstance(grid_size, Sequence) and not isinstance(grid_size, str)
        if not is_sequence or len(grid_size) != 2:
            rule = "the input's height and width"
            raise ValueError(wrong("grid_size", rule, grid_size, "for example (64, 64)"))
        for size in grid_size:
            check_integer("grid_size", size, minimum=max(lost + 1, 1))
        self.grid_size = tuple(grid_size)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.num_filter_banks = num_filter_banks
        shape = (num_filter_banks, out_channels, in_channels, kernel_size, kernel_size)
        maps = (num_filter_banks, *(size - lost for size in self.grid_size))
        self.weight = nn.Parameter(torch.empty(shape))
        self.relaxed_weights = nn.Parameter(torch.empty(maps))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw banks whose mean has the variance b^2 / 3 of `kernel_bound`."""
        fan_in = self.in_channels * self.kernel_size**2
        bound = kernel_bound(fan_in) * math.sqrt(self.num_filter_banks)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.constant_(self.relaxed_weights, 1 / self.num_filter_banks)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def forward(self, x: Tensor) -> Tensor:
        meaning = "it has weights for each position"
        fix = "Change `in_channels` or `grid_size` of this layer, or the input."
        check_shape(self, x, ("B", self.in_channels, *self.grid_size), meaning, fix)
        maps = F.conv2d(x, self.weight.flatten(0, 1), padding=self.padding)
        weights = self.effective_weights().to(maps.dtype)
        first, *others = maps.split(self.out_channels, 1)
        y = first * weights[0]
        for bank, weight in zip(others, weights[1:]):  # an `einsum` takes five times as long
            y = torch.addcmul(y, bank, weight)
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None]

    def effective_weights(self) -> Tensor:
        """[L, H', W']: w_bar_l + theta (w_l(x) - w_bar_l)."""
        return self._relaxed(self.relaxed_weights, num_axes=2)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"grid_size={self.grid_size}, num_filter_banks={self.num_filter_banks}, "
            f"padding={self.padding}, bias={self.bias is not None}"
        )
