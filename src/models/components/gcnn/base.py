"""What the lifting and group convolutions share, strict and relaxed."""

from functools import lru_cache
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_choice, check_positive_int
from .groups import Group, make_group
from .kernels import INTERPOLATIONS, check_kernel_size, kernel_transform

PADDINGS = ("same", "valid")
IN_TYPES = ("scalar", "vector", "regular")


class GroupLayer(nn.Module):
    """A convolution whose kernel is expanded from fewer parameters by a group's action.

    Subclasses set the parameter ``weight`` and give ``expanded_kernel()``; the forward pass is
    one ordinary convolution with it, plus one bias per output channel, shared over the group.

    Args:
        in_channels: I, channels of the input (vectors, where the input is a vector field).
        out_channels: O, channels of the output; each holds |G| maps.
        kernel_size: k, odd.
        group: a group or its name.
        stride: step of the convolution. A stride of 2 keeps quarter turns exact only on inputs
            of odd height and width, where the grid of outputs is centred.
        padding: ``"same"`` (k // 2 on each side), ``"valid"`` (none) or a number of pixels.
        bias: whether to add a bias.
        interpolation: how kernels are turned, see `kernels.kernel_transform`.
        in_type: what an input channel holds at each pixel and how g acts on it: ``"scalar"``
            (one number, unchanged), ``"vector"`` (two, turned by g's matrix) or ``"regular"``
            (|G| numbers, permuted: the entry at h moves to gh).

    Raises:
        ValueError: an argument out of range, or at run time an input of the wrong shape.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        group: str | Group,
        *,
        stride: int = 1,
        padding: str | int = "same",
        bias: bool = True,
        interpolation: str = "bilinear",
        in_type: str = "scalar",
    ) -> None:
        super().__init__()
        check_positive_int("in_channels", in_channels)
        check_positive_int("out_channels", out_channels)
        check_positive_int("stride", stride)
        check_kernel_size(kernel_size)
        check_choice("interpolation", interpolation, INTERPOLATIONS)
        check_choice("in_type", in_type, IN_TYPES)
        self.group = make_group(group)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = _padding_pixels(padding, kernel_size)
        self.interpolation = interpolation
        self.in_type = in_type
        self.fibre_size = {"scalar": 1, "vector": 2, "regular": self.group.order}[in_type]
        dtype = torch.get_default_dtype()
        self.register_buffer("transform", self._exact_transform().to(dtype), persistent=False)
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None

    def expanded_kernel(self) -> Tensor:
        """The ordinary convolution weight, channels ordered (o, g) and (i, fibre)."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw weights so that the expanded kernel has the variance of a new `nn.Conv2d`'s.

        That is Var = 1 / (3 fan_in). T_g changes the variance by gain = mean over g, x of
        sum_y T_g[x, y]^2, and L banks that start with equal weights add up, so the parameters
        are uniform within 1 / sqrt(fan_in * gain * L).
        """
        fan_in = self.in_channels * self.fibre_size * self.kernel_size**2
        gain = self.transform.double().square().sum(-1).mean().item()
        num_filter_banks = getattr(self, "num_filter_banks", 1)
        bound = 1 / sqrt(fan_in * gain * num_filter_banks)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1 / sqrt(fan_in), 1 / sqrt(fan_in))

    def _exact_transform(self) -> Tensor:
        """The constant matrices in float64, one per element."""
        return _cached_transform(self.group, self.kernel_size, self.interpolation)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"group={self.group.name}, stride={self.stride}, padding={self.padding}, "
            f"bias={self.bias is not None}, interpolation={self.interpolation}"
        )

    def _convolve(self, x: Tensor) -> Tensor:
        """[B, fan-in channels, H, W] -> [B, O, |G|, H', W']."""
        bias = None if self.bias is None else self.bias.repeat_interleave(self.group.order)
        y = F.conv2d(x, self.expanded_kernel(), bias, self.stride, self.padding)
        return y.unflatten(1, (self.out_channels, self.group.order))

    def _as_conv_weight(self, kernel: Tensor) -> Tensor:
        """[O, |G|, I, fibre x k^2] in any shape that flattens to it -> [O |G|, I fibre, k, k]."""
        k = self.kernel_size
        rows = self.out_channels * self.group.order
        return kernel.reshape(rows, self.in_channels * self.fibre_size, k, k)

    def _check_input(self, x: Tensor, expected: tuple[str | int, ...]) -> None:
        """Raise unless ``x`` has as many dimensions as ``expected``, and its sizes where given."""
        sizes = zip(expected, x.shape)
        if x.dim() != len(expected) or any(isinstance(e, int) and e != s for e, s in sizes):
            shape = ", ".join(map(str, expected))
            raise ValueError(
                f"input of {type(self).__name__} must have the shape [{shape}] "
                f"({self.in_channels} {self.in_type} channels, group {self.group.name}); "
                f"got {list(x.shape)}. Change `in_channels` or `group` of this layer, or the "
                "layer before it."
            )

    def _apply(self, fn, recurse=True):
        """Recompute the constants in double precision when dtype or device changes."""
        super()._apply(fn, recurse)
        self.transform = self._exact_transform().to(self.transform)
        return self


@lru_cache(maxsize=64)
def _cached_transform(group: Group, kernel_size: int, interpolation: str) -> Tensor:
    return kernel_transform(group, kernel_size, interpolation)


def _padding_pixels(padding: str | int, kernel_size: int) -> int:
    if isinstance(padding, int) and not isinstance(padding, bool):
        check_positive_int("padding", padding, minimum=0)
        return padding
    check_choice("padding", padding, (*PADDINGS, "a number of pixels"))
    return kernel_size // 2 if padding == "same" else 0
