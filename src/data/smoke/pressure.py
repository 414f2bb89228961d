"""The exact pressure of a fluid in a closed square box, by the discrete cosine transform.

Velocities at the faces are laid out as in `src.data.smoke.advection`.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor


def divergence(faces: Tensor) -> Tensor:
    r"""Net flow out of each cell of a closed box.

    .. math:: d_{ij} = u_{i+1/2,j} - u_{i-1/2,j} + v_{i,j+1/2} - v_{i,j-1/2}

    with cells of size 1, and u = v = 0 at the walls. The result is ``[S, column, row]``, in
    1 / time unit.
    """
    x, y = F.pad(faces, (0, 0, 1, 1)).diff(dim=2)
    return x + y.mT


def project(faces: Tensor) -> Tensor:
    """The divergence-free velocity closest to the given one: u - grad p, with lap p = div u."""
    pressure = solve(divergence(faces))
    return faces - torch.stack([pressure, pressure.mT]).diff(dim=2)


def solve(source: Tensor) -> Tensor:
    r"""Solve the pressure equation of a closed box, lap p = source, up to rounding errors.

    The five-point Laplacian with walls of zero gradient is diagonal under the discrete cosine
    transform of type 2, with the eigenvalues

    .. math:: \lambda_{kl} = 2 \cos(\pi k / N) - 2 + 2 \cos(\pi l / N) - 2

    so p is one transform, a division and one transform back. The mean of the source, which no
    pressure can balance, is left out, and p has mean 0. Source and pressure are ``[S, N, N]``,
    float64.

    The transforms are products with matrices. Cosines of even frequency see the sum of the source
    and its mirror image, those of odd frequency the difference, and the result is the mean of those
    with the axes in either order. So a turned source gives the turned pressure, bit for bit where
    the rounding of a matrix product does not depend on the place in it (seen: N a multiple of 4).

    Reference: Strang, The discrete cosine transform, SIAM Review 41 (1), 1999, section 3.
    """
    even, odd, inverse = _constants(source.shape[-1], source.device)

    def transform(values: Tensor) -> Tensor:
        mirrored = values.flip(-1)
        return torch.cat([(values + mirrored) @ even, (values - mirrored) @ odd], -1)

    def transform_back(values: Tensor) -> Tensor:
        first, second = values.split([even.shape[1], odd.shape[1]], -1)
        first, second = first @ even.mT, second @ odd.mT
        return (first + first.flip(-1)).add_(second - second.flip(-1))

    spectrum = transform(transform(torch.cat([source, source.mT])).mT).mul_(inverse)
    pressure, transposed = transform_back(transform_back(spectrum).mT).chunk(2)
    return (pressure + transposed.mT) / 2


@functools.lru_cache
def _constants(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Half the cosines ``[cell, frequency]`` of even and odd frequency, and 1 / eigenvalues.

    The eigenvalues ``[N, N]`` are in the order of the even, then the odd frequencies; the inverse
    is 0 for that of the constant.
    """
    cells = torch.arange(size, dtype=torch.float64)
    cosines = torch.cos((cells[:, None] + 0.5) * cells * math.pi / size) * math.sqrt(2 / size)
    cosines[:, 0] /= math.sqrt(2)
    along = 2 * torch.cos(torch.cat([cells[::2], cells[1::2]]) * math.pi / size) - 2
    eigenvalues = along[:, None] + along
    eigenvalues[0, 0] = math.inf
    parts = cosines[:, ::2] / 2, cosines[:, 1::2] / 2, eigenvalues.reciprocal()
    return tuple(part.contiguous().to(device) for part in parts)
