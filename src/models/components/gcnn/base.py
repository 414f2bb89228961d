"""What the lifting and group convolutions share, strict and relaxed."""

from functools import lru_cache
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.checks import check_choice, check_integer
from src.models.components.gcnn.caching import KernelCache
from src.models.components.gcnn.groups import Group, make_group
from src.models.components.gcnn.kernels import INTERPOLATIONS, check_kernel_size, kernel_transform

PADDINGS = ("same", "valid")
IN_TYPES = ("scalar", "vector", "regular")


class GroupLayer(nn.Module):
    r"""A convolution whose kernel is expanded from fewer parameters by a group's action.

    .. math:: W_{o,g,i} = A_g\, \psi_{o,i}, \qquad A_g = \rho(g) \otimes T_g

    psi[o, i] holds one k x k kernel for each number of the input's fibre (what a channel holds
    at each pixel): T_g turns the kernels (`kernels.kernel_transform`), rho(g) acts on the fibre.
    The forward pass is one ordinary convolution with W, plus one bias per output channel, shared
    over the group.

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
        in_type: the fibre and its rho(g): ``"scalar"`` (one number, unchanged), ``"vector"``
            (two, turned by g's matrix) or ``"regular"`` (|G|, permuted: the one at h moves to
            gh).

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
        check_integer("in_channels", in_channels)
        check_integer("out_channels", out_channels)
        check_integer("stride", stride)
        check_kernel_size(kernel_size)
        check_choice("interpolation", interpolation, INTERPOLATIONS)
        check_choice("in_type", in_type, IN_TYPES)
        self.group = make_group(group)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding_pixels(padding, kernel_size)
        self.interpolation = interpolation
        self.in_type = in_type
        self.fibre_size = {"scalar": 1, "vector": 2, "regular": self.group.order}[in_type]
        self._register_constants()
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.kernel_cache = KernelCache()

    def expanded_kernel(self) -> Tensor:
        """W as an ordinary convolution weight [O |G|, I fibre, k, k], output channels (o, g)."""
        return self._turn_shared(self.weight)

    def expanded_bias(self) -> Tensor | None:
        """The bias as an ordinary convolution's, [O |G|], or None."""
        return None if self.bias is None else self.bias.repeat_interleave(self.group.order)

    def reset_parameters(self) -> None:
        """Draw weights so that the expanded kernel has the variance of a new `nn.Conv2d`'s.

        That is Var = 1 / (3 fan_in). A_g changes the variance by gain = mean over rows of the
        sum of squares in a row, and L banks that start with equal weights add up, so the
        parameters are uniform within 1 / sqrt(fan_in * gain * L).
        """
        fan_in = self.in_channels * self.fibre_size * self.kernel_size**2
        gain = 1.0 if self.permutes else self.transform.square().sum(-1).mean().item()
        num_filter_banks = getattr(self, "num_filter_banks", 1)
        bound = 1 / sqrt(fan_in * gain * num_filter_banks)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1 / sqrt(fan_in), 1 / sqrt(fan_in))

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"group={self.group.name}, stride={self.stride}, padding={self.padding}, "
            f"bias={self.bias is not None}, interpolation={self.interpolation}"
        )

    def _turn_shared(self, psi: Tensor) -> Tensor:
        """Expand one psi that all elements share, [O, I fibre, k, k] in any grouping of axes."""
        if self.permutes:
            psi = psi.reshape(self.out_channels, 1, -1)
            return self._permute(psi.expand(-1, self.group.order, -1))
        size = self.transform.shape[-1]
        turned = psi.reshape(-1, size) @ self.transform.flatten(0, 1).t()
        turned = turned.view(self.out_channels, -1, self.group.order, size)
        return self._as_conv_weight(turned.transpose(1, 2))

    def _turn_each(self, psi: Tensor) -> Tensor:
        """Expand one psi per element: [|G|, O, I fibre k^2] in any grouping of axes."""
        order, size = self.group.order, self.transform.shape[-1]
        turned = torch.bmm(psi.reshape(order, -1, size), self.transform.mT)
        return self._as_conv_weight(turned.view(order, self.out_channels, -1).transpose(0, 1))

    def _permute(self, psi: Tensor) -> Tensor:
        """Expand one psi per element, [O, |G|, I fibre k^2], where A_g only permutes."""
        psi = psi.reshape(self.out_channels, -1)
        return self._as_conv_weight(psi.gather(1, self.source.expand(self.out_channels, -1)))

    def _as_conv_weight(self, kernel: Tensor) -> Tensor:
        """[O, |G|, I, fibre k^2] in any grouping of axes -> [O |G|, I fibre, k, k]."""
        k = self.kernel_size
        rows = self.out_channels * self.group.order
        return kernel.reshape(rows, self.in_channels * self.fibre_size, k, k)

    def _convolve(self, x: Tensor) -> Tensor:
        """[B, I fibre, H, W] -> [B, O, |G|, H', W']."""
        y = F.conv2d(x, self._kernel(), self.expanded_bias(), self.stride, self.padding)
        return y.unflatten(1, (self.out_channels, self.group.order))

    def _kernel(self) -> Tensor:
        """`expanded_kernel`, built anew only if it may have changed: see `KernelCache`."""
        return self.kernel_cache.get(self._kernel_parameters(), self.expanded_kernel)

    def _kernel_parameters(self) -> tuple[Tensor, ...]:
        """What the expanded kernel is built from."""
        return (self.weight,)

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

    def _register_constants(self) -> None:
        """What turns the kernels: a permutation if that is all that A_g does, else matrices."""
        permutation = self._exact_permutation()
        self.permutes = permutation is not None
        if self.permutes:
            self._register_permutation(permutation)
            return
        transform = self._exact_transform().to(torch.get_default_dtype())
        self.register_buffer("transform", transform, persistent=False)

    def _register_permutation(self, permutation: Tensor) -> None:
        """Where each number of an output channel's kernels, ordered (g, i, fibre k^2), was."""
        order, size = permutation.shape
        kernel = torch.arange(order * self.in_channels).view(order, -1, 1)
        source = permutation[:, None] + kernel * size
        self.register_buffer("source", source.flatten(), persistent=False)

    def _exact_permutation(self) -> Tensor | None:
        """A_g as the rows of ones, [|G|, fibre k^2]; None if it does more than permute."""
        return fibre_permutation(self.group, self.kernel_size, self.interpolation, self.in_type)

    def _exact_transform(self) -> Tensor:
        """A_g in float64, [|G|, fibre k^2, fibre k^2]."""
        return fibre_transform(self.group, self.kernel_size, self.interpolation, self.in_type)

    def _apply(self, fn, recurse=True):
        """Recompute the constants in double precision when dtype or device changes."""
        super()._apply(fn, recurse)
        if not self.permutes:
            self.transform = self._exact_transform().to(self.transform)
        self.kernel_cache.clear()
        return self


@lru_cache(maxsize=64)
def fibre_transform(group: Group, kernel_size: int, interpolation: str, in_type: str) -> Tensor:
    """rho(g) kron T_g for every element."""
    transform = kernel_transform(group, kernel_size, interpolation)
    if in_type == "scalar":
        return transform
    matrices = group.matrices if in_type == "vector" else group.regular_representation()
    return torch.stack([torch.kron(rho, t) for rho, t in zip(matrices, transform)])


@lru_cache(maxsize=64)
def fibre_permutation(
    group: Group, kernel_size: int, interpolation: str, in_type: str
) -> Tensor | None:
    """[|G|, fibre k^2], the place of the one in each row of `fibre_transform`.

    None where A_g does more than permute: T_g off the grid, or rho(g) with a change of sign.
    """
    if not _is_permutation(kernel_transform(group, kernel_size, interpolation)):
        return None  # before rho(g) makes large matrices of it
    transform = fibre_transform(group, kernel_size, interpolation, in_type)
    return transform.argmax(-1) if _is_permutation(transform) else None


def _is_permutation(transform: Tensor) -> bool:
    """Whether matrices [..., n, n] hold one 1 in each row and column, and otherwise zeros."""
    one_each = all((transform.sum(dim) == 1).all() for dim in (-1, -2))
    return one_each and bool(((transform == 0) | (transform == 1)).all())


def padding_pixels(padding: str | int, kernel_size: int) -> int:
    """Pixels of zeros on each side, for ``"same"``, ``"valid"`` or a number of pixels.

    Raises:
        ValueError: another word, or a negative number.
    """
    if isinstance(padding, int) and not isinstance(padding, bool):
        check_integer("padding", padding, minimum=0)
        return padding
    check_choice("padding", padding, (*PADDINGS, "a number of pixels"))
    return kernel_size // 2 if padding == "same" else 0
