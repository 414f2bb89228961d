"""Kernels made of circular harmonics, which turn by any angle without interpolation."""

import torch
from torch import Tensor

RING_WIDTH = 0.5
OUTER_RING_WIDTH = 0.4


def harmonic_transform(matrices: Tensor, pixels: Tensor, radius: int) -> Tensor:
    r"""T_g = B R_g B^+ on kernels of circular harmonics.

    The columns of B are sampled harmonics on rings of radius r = 0, 1, ..., k // 2:

    .. math:: \exp\!\left(-\frac{(|x| - r)^2}{2 \sigma_r^2}\right) \{\cos m\theta, \sin m\theta\}

    R_g turns (or mirrors) their coefficients exactly, B^+ is the pseudo-inverse. T_e is the
    projection on kernels that the basis can represent, and T_g T_h = T_gh for all elements.

    Frequencies stop at r + 1, on the outermost ring at r - 1 (at least 1, and 0 on the centre):
    faster ones alias on the pixel grid. Widths are 0.5, and 0.4 on the outermost ring. Both were
    chosen by `scripts/benchmark_equivariance.py`.

    Args:
        matrices: [|G|, 2, 2], g^-1 for every element.
        pixels: [k^2, 2], (column, row) from the centre.
        radius: k // 2.

    Reference: M. Weiler, F. Hamprecht, M. Storath, Learning Steerable Filters for Rotation
    Equivariant CNNs, CVPR 2018.
    """
    sources = torch.einsum("gij,xj->gxi", matrices, pixels)
    basis = sample_harmonics(pixels, radius)
    return sample_harmonics(sources, radius) @ torch.linalg.pinv(basis)


def sample_harmonics(points: Tensor, radius: int) -> Tensor:
    """B at the given (column, row): [..., 2] -> [..., number of harmonics]."""
    column, row = points.unbind(-1)
    distance, angle = points.norm(dim=-1), torch.atan2(row, column)
    columns = []
    for r, frequency in enumerate(largest_frequencies(radius)):
        width = OUTER_RING_WIDTH if r == radius else RING_WIDTH
        ring = torch.exp(-((distance - r) ** 2) / (2 * width**2))
        columns.append(ring)
        off_centre = ring * (distance > 1e-9)  # the angle has no meaning at the centre
        for m in range(1, frequency + 1):
            columns += [off_centre * (m * angle).cos(), off_centre * (m * angle).sin()]
    return torch.stack(columns, -1)


def largest_frequencies(radius: int) -> list[int]:
    """Largest frequency on each ring."""
    inner = [0, *range(2, radius + 1)]
    return [0] if radius == 0 else [*inner[:radius], max(1, radius - 1)]


def degrees_of_freedom(kernel_size: int) -> int:
    """Numbers left of the k^2 of a kernel: the dimension of the space of harmonics."""
    return sum(2 * m + 1 for m in largest_frequencies(kernel_size // 2))
