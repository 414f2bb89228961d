"""The action of a group on k x k kernels, as constant matrices."""

import torch
from torch import Tensor

from src.checks import check_choice, check_integer
from src.models.components.gcnn.groups import Group, make_group
from src.models.components.gcnn.harmonics import harmonic_transform

IMAGE_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
INTERPOLATIONS = (*IMAGE_INTERPOLATIONS, "harmonic")


def check_kernel_size(kernel_size: int) -> None:
    """Raise unless ``kernel_size`` is an odd positive integer."""
    check_integer("kernel_size", kernel_size)
    if kernel_size % 2 == 0:
        raise ValueError(
            "`kernel_size` must be odd so that a rotated kernel stays centred; "
            f"got {kernel_size}. Use {kernel_size - 1} or {kernel_size + 1}."
        )


def kernel_transform(group: str | Group, kernel_size: int, interpolation: str) -> Tensor:
    r"""Matrices T_g that transform a kernel on the centred k x k grid.

    .. math:: (T_g \psi)(x) = \psi(g^{-1} x) = \sum_y \phi(g^{-1} x - y)\, \psi(y)

    with phi the interpolation's kernel and psi zero outside the grid. ``nearest`` takes the
    closest pixel (ties to the even index), ``bilinear`` the tent function, ``bicubic`` Keys'
    cubic convolution with a = -0.75. ``harmonic`` takes kernels of circular harmonics
    (`harmonics.harmonic_transform`): the identity then projects on them.

    Returns:
        [|G|, k^2, k^2], float64: row = output pixel x, column = input pixel y, both row-major.

    Reference: R. Keys, Cubic convolution interpolation for digital image processing, 1981.
    """
    group = make_group(group)
    check_kernel_size(kernel_size)
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    axis = torch.arange(kernel_size, dtype=torch.float64) - kernel_size // 2
    row, column = torch.meshgrid(axis, axis, indexing="ij")
    pixels = torch.stack([column.flatten(), row.flatten()], -1)  # [k^2, 2] from the centre
    inverses = group.matrices[group.inverse]
    if interpolation == "harmonic":
        transform = harmonic_transform(inverses, pixels, kernel_size // 2)
        permutation = kernel_transform(group, kernel_size, "nearest")
        for g in filter(group.is_exact, range(group.order)):
            transform[g] = permutation[g] @ transform[0]
        return transform
    sources = torch.einsum("gij,xj->gxi", inverses, pixels)
    if interpolation == "nearest":
        closest = sources.mul(1e9).round().div(1e9)  # cos and sin may miss a tie by one ulp
        closest = closest.add(kernel_size // 2).round() - kernel_size // 2
        return (closest[:, :, None, :] == pixels).all(-1).double()
    offsets = (sources[:, :, None, :] - pixels).abs()
    weight = (1 - offsets).clamp(min=0) if interpolation == "bilinear" else _keys_cubic(offsets)
    return weight.prod(-1)


def _keys_cubic(u: Tensor, a: float = -0.75) -> Tensor:
    """Keys' kernel at distances u >= 0."""
    inner = ((a + 2) * u - (a + 3)) * u**2 + 1
    outer = ((a * u - 5 * a) * u + 8 * a) * u - 4 * a
    return torch.where(u <= 1, inner, torch.where(u < 2, outer, torch.zeros_like(u)))
