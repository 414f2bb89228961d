"""What the lifting and group convolutions share, strict and relaxed."""

from functools import lru_cache
from math import sqrt

import torch
from torch import Tensor, nn

from src.checks import check_choice, check_integer
from src.models.components.gcnn.caching import ExpandedConv
from src.models.components.gcnn.groups import Group
from src.models.components.gcnn.initial import kernel_bound
from src.models.components.gcnn.kernels import INTERPOLATIONS, kernel_transform


class GroupLayer(ExpandedConv):
    r"""A convolution whose kernel is expanded from fewer parameters by a group's action.

    .. math:: W_{o,g,i} = A_g\, \psi_{o,i}, \qquad A_g = \rho(g) \otimes T_g

    psi[o, i] holds one k x k kernel for each number of the input's fibre (what a channel holds
    at each pixel): T_g turns the kernels (`kernels.kernel_transform`), rho(g) acts on the fibre.
    The forward pass is one ordinary convolution with W, plus one bias per output channel, shared
    over the group.

    Args:
        in_channels: I, fields of the input, which hold a fibre of ``in_type`` each.
        out_channels: O, channels of the output; each holds |G| maps.
        kernel_size: k, odd.
        group: a group or its name.
        stride: step; 2 keeps quarter turns exact only on inputs of odd height and width.
        padding: ``"same"`` (k // 2 on each side), ``"valid"`` (none) or a number of pixels.
        bias: whether to add a bias.
        interpolation: how kernels are turned, see `kernels.kernel_transform`.
        in_type: fibre and rho(g): ``"scalar"`` (one number, unchanged), ``"vector"`` (two, turned
            by g's matrix), ``"vector+scalar"`` (these three) or ``"regular"`` (|G|, permuted: the
            one at h moves to gh).
    """

    out_type = "regular"
    _num_summands = 1  # kernels that add up in an expanded one; a relaxed layer has L

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
        super().__init__(in_channels, out_channels, kernel_size, group, in_type, self.out_type)
        check_integer("stride", stride)
        check_choice("interpolation", interpolation, INTERPOLATIONS)
        self.stride = stride
        self.padding = padding_pixels(padding, kernel_size)
        self.interpolation = interpolation
        self.fibre_size = self.group.fibre_size(in_type)
        permutation = self._exact_permutation()
        self.permutes = permutation is not None
        if self.permutes:  # where each number of an output channel, (g, i, fibre k^2), comes from
            order, size = permutation.shape
            kernel = torch.arange(order * in_channels).view(order, -1, 1)
            source = permutation[:, None] + kernel * size
            self.source, self.index_tables = source.flatten(), ("source",)
        for name, exact in self.exact_constants().items():
            setattr(self, name, exact.to(torch.get_default_dtype()))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None

    def expanded_fibres(self) -> Tensor:
        """W, [O, |G|, I, fibre, k, k]."""
        return self._turn_shared(self.weight)

    def reset_parameters(self) -> None:
        """Draw weights so that the expanded kernel has the variance b^2 / 3 of `kernel_bound`.

        A_g changes the variance by gain, the mean over rows of the sum of squares in a row, and L
        banks that start with equal weights add up, so the parameters are uniform within
        b / sqrt(gain * L); biases as those of `nn.Conv2d`, within 1 / sqrt(fan_in).
        """
        fan_in = self.in_channels * self.fibre_size * self.kernel_size**2
        gain = 1.0 if self.permutes else self.transform.square().sum(-1).mean().item()
        bound = kernel_bound(fan_in) / sqrt(gain * self._num_summands)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1 / sqrt(fan_in), 1 / sqrt(fan_in))

    def exact_constants(self) -> dict[str, Tensor]:
        """The matrices that turn kernels, in float64, where a permutation does not do it."""
        return {} if self.permutes else {"transform": self._exact_transform()}

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
        return self._with_fibres(turned.permute(2, 0, 1, 3)).transpose(0, 1)

    def _turn_each(self, psi: Tensor) -> Tensor:
        """Expand one psi per element: [|G|, O, I fibre k^2] in any grouping of axes."""
        order, size = self.group.order, self.transform.shape[-1]
        turned = torch.bmm(psi.reshape(order, -1, size), self.transform.mT)
        return self._with_fibres(turned.view(order, self.out_channels, -1)).transpose(0, 1)

    def _permute(self, psi: Tensor) -> Tensor:
        """Expand one psi per element, [O, |G|, I fibre k^2], where A_g only permutes."""
        psi = psi.reshape(self.out_channels, -1)
        kernel = psi.gather(1, self.source.expand(self.out_channels, -1))
        return self._with_fibres(kernel.view(self.out_channels, self.group.order, -1))

    def _with_fibres(self, kernel: Tensor) -> Tensor:
        """[m, n, I fibre k^2] in any grouping of the last axes -> [m, n, I, fibre, k, k]."""
        sizes = self.in_channels, self.fibre_size, self.kernel_size, self.kernel_size
        return kernel.reshape(*kernel.shape[:2], *sizes)

    def _exact_permutation(self) -> Tensor | None:
        """The places of the ones in A_g, [|G|, fibre k^2]; None if it does more than permute."""
        return fibre_permutation(self.group, self.kernel_size, self.interpolation, self.in_type)

    def _exact_transform(self) -> Tensor:
        """A_g in float64, [|G|, fibre k^2, fibre k^2]."""
        return fibre_transform(self.group, self.kernel_size, self.interpolation, self.in_type)


@lru_cache(maxsize=64)
def fibre_transform(group: Group, kernel_size: int, interpolation: str, in_type: str) -> Tensor:
    """rho(g) kron T_g for every element."""
    transform = kernel_transform(group, kernel_size, interpolation)
    if in_type == "scalar":
        return transform
    matrices = group.representation(in_type)
    return torch.stack([torch.kron(rho, t) for rho, t in zip(matrices, transform)])


@lru_cache(maxsize=64)
def fibre_permutation(
    group: Group, kernel_size: int, interpolation: str, in_type: str
) -> Tensor | None:
    """[|G|, fibre k^2], the place of the one in each row of `fibre_transform`, or None."""
    if not _is_permutation(kernel_transform(group, kernel_size, interpolation)):
        return None  # before rho(g) makes large matrices of it
    transform = fibre_transform(group, kernel_size, interpolation, in_type)
    return transform.argmax(-1) if _is_permutation(transform) else None


def _is_permutation(transform: Tensor) -> bool:
    """Whether matrices [..., n, n] hold one 1 in each row and column, and otherwise zeros."""
    one_each = all((transform.sum(dim) == 1).all() for dim in (-1, -2))
    return one_each and bool(((transform == 0) | (transform == 1)).all())


def padding_pixels(padding: str | int, kernel_size: int) -> int:
    """Pixels of zeros on each side, for ``"same"``, ``"valid"`` or a number of pixels."""
    if isinstance(padding, int) and not isinstance(padding, bool):
        check_integer("padding", padding, minimum=0)
        return padding
    check_choice("padding", padding, ("same", "valid", "a number of pixels"))
    return kernel_size // 2 if padding == "same" else 0
