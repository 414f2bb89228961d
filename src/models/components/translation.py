"""Relaxed translation convolution: filter banks mixed anew at every position."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.checks import check_integer
from src.models.components.gcnn.base import padding_pixels
from src.models.components.gcnn.kernels import check_kernel_size
from src.models.components.gcnn.relaxation import (
    Relaxable,
    mean_neighbour_difference,
    relative_to_mean,
)


class RelaxedTranslationConv(Relaxable):
    r"""Convolution whose kernel may change from place to place.

    .. math:: y(x) = b + \sum_l w_l(x)\, (\psi_l * f)(x)

    All maps w_l start at 1 / L: a new layer is the convolution with the mean of its banks, and
    exactly equivariant to translations (up to the borders of the picture). Its kernel has the
    variance of a new `nn.Conv2d`'s, whatever L. At a `relaxation` theta below 1 each map stands
    nearer to its mean over the positions, see `Relaxable`.

    Args:
        in_channels: I, channels of the input.
        out_channels: O, channels of the output.
        kernel_size: k, odd.
        grid_size: (H, W) of the input.
        num_filter_banks: L.
        padding: ``"same"`` (k // 2 on each side), ``"valid"`` (none) or a number of pixels.
        bias: whether to add one number per output channel.

    Shapes:
        input [B, I, H, W]; output [B, O, H', W']; ``weight`` [L, O, I, k, k],
        ``relaxed_weights`` [L, H', W'].

    Raises:
        ValueError: an argument out of range, or at run time an input of the wrong shape.

    Reference: R. Wang, R. Walters, R. Yu, Approximately Equivariant Networks for Imperfectly
    Symmetric Dynamics, ICML 2022.
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
        self.grid_size = _check_grid_size(grid_size, kernel_size - 2 * self.padding)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.num_filter_banks = num_filter_banks
        shape = (num_filter_banks, out_channels, in_channels, kernel_size, kernel_size)
        lost = kernel_size - 1 - 2 * self.padding
        maps = (num_filter_banks, *(size - lost for size in self.grid_size))
        self.weight = nn.Parameter(torch.empty(shape))
        self.relaxed_weights = nn.Parameter(torch.empty(maps))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw banks whose mean has the variance 1 / (3 fan_in) of a new `nn.Conv2d`'s weight."""
        bound = 1 / math.sqrt(self.in_channels * self.kernel_size**2)
        scale = math.sqrt(self.num_filter_banks)
        nn.init.uniform_(self.weight, -scale * bound, scale * bound)
        nn.init.constant_(self.relaxed_weights, 1 / self.num_filter_banks)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, H, W] -> [B, O, H', W']."""
        self._check_input(x)
        y = F.conv2d(x, self.weight.flatten(0, 1), padding=self.padding)
        y = y.unflatten(1, (self.num_filter_banks, self.out_channels))
        y = torch.einsum("blohw,lhw->bohw", y, self.effective_weights())
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None]

    def effective_weights(self) -> Tensor:
        """[L, H', W']: w_bar_l + theta (w_l(x) - w_bar_l), w_l(x) itself where theta is None."""
        return self._relaxed(self.relaxed_weights, num_axes=2)

    def relaxation_penalty(self) -> Tensor:
        """Mean |difference| of the maps at neighbouring positions, along rows and columns."""
        return mean_neighbour_difference(self.effective_weights())

    def relaxed_weight_error(self) -> Tensor:
        """`relaxation_penalty` over the mean |w|; zero exactly when strict."""
        return relative_to_mean(self.relaxation_penalty(), self.effective_weights())

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"grid_size={self.grid_size}, num_filter_banks={self.num_filter_banks}, "
            f"padding={self.padding}, bias={self.bias is not None}"
        )

    def _check_input(self, x: Tensor) -> None:
        expected = (self.in_channels, *self.grid_size)
        if x.dim() != 4 or tuple(x.shape[1:]) != expected:
            shape = ", ".join(map(str, ("B", *expected)))
            raise ValueError(
                f"input of {type(self).__name__} must have the shape [{shape}], because it has "
                f"weights for each position; got {list(x.shape)}. Change `in_channels` or "
                "`grid_size` of this layer, or the input."
            )


def _check_grid_size(grid_size: Sequence[int], smallest: int) -> tuple[int, int]:
    """As a tuple; raise unless it is two integers, large enough for one position of output."""
    is_sequence = isinstance(grid_size, Sequence) and not isinstance(grid_size, str)
    sizes = tuple(grid_size) if is_sequence else ()
    if len(sizes) != 2:
        raise ValueError(
            f"`grid_size` must be the input's height and width; got {grid_size!r}. Use for "
            "example (64, 64)."
        )
    for size in sizes:
        check_integer("grid_size", size, minimum=max(smallest, 1))
    return sizes
