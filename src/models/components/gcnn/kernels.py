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

    with phi the interpolation's kernel and psi zero outside the grid. For elements that map the
    grid to itself T_g is an exact permutation. ``nearest`` takes the closest pixel (ties to the
    even index), ``bilinear`` the tent function, ``bicubic`` Keys' cubic convolution with
    a = -0.75, each as `torch.nn.functional.grid_sample` does. ``harmonic`` takes kernels of
    circular harmonics (`harmonics.harmonic_transform`): the identity then projects on them.

    Args:
        group: a group or its name.
        kernel_size: k, odd.
        interpolation: ``"nearest"``, ``"bilinear"``, ``"bicubic"`` or ``"harmonic"``.

    Returns:
        [|G|, k^2, k^2], float64: row = output pixel x, column = input pixel y, both row-major.

    Raises:
        ValueError: unknown group or interpolation, even or non-positive kernel size.

    Reference: R. Keys, Cubic convolution interpolation for digital image processing, 1981.
    """
    group = make_group(group)
    check_kernel_size(kernel_size)
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    pixels = _centred_grid(kernel_size)
    if interpolation == "harmonic":
        return _harmonic_transform(group, pixels, kernel_size // 2)
    sources = torch.einsum("gij,xj->gxi", group.matrices[group.inverse], pixels)
    if interpolation == "nearest":
        closest = sources.mul(1e9).round().div(1e9)  # cos and sin may miss a tie by one ulp
        closest = closest.add(kernel_size // 2).round() - kernel_size // 2
        return (closest[:, :, None, :] == pixels).all(-1).double()
    offsets = sources[:, :, None, :] - pixels
    weight = _tent(offsets) if interpolation == "bilinear" else _keys_cubic(offsets)
    return weight.prod(-1)


def _harmonic_transform(group: Group, pixels: Tensor, radius: int) -> Tensor:
    transform = harmonic_transform(group.matrices[group.inverse], pixels, radius)
    permutation = kernel_transform(group, 2 * radius + 1, "nearest")
    for g in filter(group.is_exact, range(group.order)):
        transform[g] = permutation[g] @ transform[0]
    return transform


def _centred_grid(kernel_size: int) -> Tensor:
    """(column, row) coordinates of the k^2 pixels, row-major, the centre at (0, 0)."""
    axis = torch.arange(kernel_size, dtype=torch.float64) - kernel_size // 2
    row, column = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([column.flatten(), row.flatten()], -1)


def _tent(u: Tensor) -> Tensor:
    return (1 - u.abs()).clamp(min=0)


def _keys_cubic(u: Tensor, a: float = -0.75) -> Tensor:
    u = u.abs()
    inner = ((a + 2) * u - (a + 3)) * u**2 + 1
    outer = ((a * u - 5 * a) * u + 8 * a) * u - 4 * a
    return torch.where(u <= 1, inner, torch.where(u < 2, outer, torch.zeros_like(u)))
