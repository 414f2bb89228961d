"""The exact pressure of a fluid in a closed box, by the discrete cosine transform."""

import functools
import math

import torch
import torch.nn.functional as F
from scipy.fft import dctn, idctn
from torch import Tensor


def divergence(x_faces: Tensor, y_faces: Tensor) -> Tensor:
    r"""Net flow out of each cell of a closed box.

    .. math:: d_{ij} = u_{i+1/2,j} - u_{i-1/2,j} + v_{i,j+1/2} - v_{i,j-1/2}

    with cells of size 1, u = v = 0 at the walls, u at the faces between cells (i, j) and
    (i + 1, j), ``[S, X - 1, Y]``, and v at those between (i, j) and (i, j + 1), ``[S, X, Y - 1]``.
    The result is ``[S, X, Y]``, in 1 / time unit.
    """
    return F.pad(x_faces, (0, 0, 1, 1)).diff(dim=1) + F.pad(y_faces, (1, 1)).diff(dim=2)


def project(x_faces: Tensor, y_faces: Tensor) -> tuple[Tensor, Tensor]:
    """The divergence-free velocity closest to the given one: u - grad p, with lap p = div u.

    Takes and returns the velocities at the faces, as in `divergence`.
    """
    pressure = solve(divergence(x_faces, y_faces))
    return x_faces - pressure.diff(dim=1), y_faces - pressure.diff(dim=2)


def solve(source: Tensor) -> Tensor:
    r"""Solve the pressure equation of a closed box, lap p = source, up to rounding errors.

    The five-point Laplacian with walls of zero gradient is diagonal under the discrete cosine
    transform of type 2, with the eigenvalues

    .. math:: \lambda_{kl} = 2 \cos(\pi k / X) - 2 + 2 \cos(\pi l / Y) - 2

    so p is one transform, a division and one transform back. The mean of the source, which no
    pressure can balance, is left out, and p has mean 0. On the CPU `scipy.fft` transforms; on
    other devices products with the matrices of cosines do. Source and pressure are ``[S, X, Y]``.

    Reference: Strang, The discrete cosine transform, SIAM Review 41 (1), 1999, section 3.
    """
    return solve_by_fft(source) if source.device.type == "cpu" else solve_by_matrices(source)


def solve_by_fft(source: Tensor) -> Tensor:
    """`solve` on the CPU."""
    spectrum = dctn(source.numpy(), axes=(1, 2), norm="ortho")
    spectrum *= _inverse_eigenvalues(source.shape[1:], source.dtype, source.device).numpy()
    return torch.from_numpy(idctn(spectrum, axes=(1, 2), norm="ortho", overwrite_x=True))


def solve_by_matrices(source: Tensor) -> Tensor:
    """`solve` on any device."""
    inverse = _inverse_eigenvalues(source.shape[1:], source.dtype, source.device)
    x, y = (_cosines(size, source.dtype, source.device) for size in source.shape[1:])
    return x.t() @ ((x @ source @ y.t()) * inverse) @ y


@functools.lru_cache
def _inverse_eigenvalues(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """1 / eigenvalues ``[X, Y]``, and 0 for that of the constant."""
    x, y = (2 * torch.cos(torch.arange(n, dtype=torch.float64) * math.pi / n) - 2 for n in shape)
    eigenvalues = x[:, None] + y
    eigenvalues[0, 0] = math.inf
    return eigenvalues.reciprocal().to(device, dtype)


@functools.lru_cache
def _cosines(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal matrix ``[frequency, cell]`` of the transform."""
    cells = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(cells[:, None] * (cells + 0.5) * math.pi / size) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.to(device, dtype)
