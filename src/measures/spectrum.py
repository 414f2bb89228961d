"""Both ends of the spectrum of a large symmetric matrix."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from src.checks import check_integer, wrong
from src.measures.krylov import Array, SymmetricOperator, lanczos

NORM_STEPS = 5  # Lanczos steps that estimate the norm of a matrix


@dataclass(frozen=True)
class SpectrumEnd:
    """Eigenvalues at one end of a spectrum, outermost first.

    Attributes:
        eigenvalues: lambda = v^T H v of the unit vectors v that were found.
        residuals: ||H v - lambda v|| of each, divided by the largest |eigenvalue| seen at either
            end: no further than that from lambda there is an eigenvalue.
        converged: whether there are as many as asked for, each with a residual of at most the
            tolerance. If not, those that did converge are listed, maybe none.
    """

    eigenvalues: list[float]
    residuals: list[float]
    converged: bool


@dataclass(frozen=True)
class ExtremeEigenvalues:
    """Both ends of a spectrum, ``largest`` descending, ``smallest`` ascending; what they cost."""

    largest: SpectrumEnd
    smallest: SpectrumEnd
    num_products: int


def extreme_eigenvalues(
    operator: SymmetricOperator,
    num_eigenvalues: int = 5,
    *,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
    seed: int = 0,
) -> ExtremeEigenvalues:
    """The k largest and the k smallest (most negative) eigenvalues, with their residuals.

    By ARPACK's restarted Lanczos method, both ends from the same Krylov space; a matrix of no
    more rows than that space has vectors is built and diagonalised instead.

    An eigenvalue v^T H v < 0 among the results proves that H has a negative one, whatever its
    residual: the smallest eigenvalue is below every such quotient (up to rounding errors of the
    products). That there is none is shown only by a smallest eigenvalue that has converged, and
    no closer to 0 than its residual. Of eigenvalues that repeat, fewer may be found than exist;
    where many crowd at one end, as near 0 in a Gauss-Newton matrix, a small tolerance is costly.

    Args:
        operator: H.
        num_eigenvalues: k at each end; fewer if H has fewer rows.
        tolerance: largest residual, relative to the largest |eigenvalue|; between 0 and 1.
        max_iterations: restarts, of about 2 k products each.
        seed: random seed of the starting vector.

    Raises:
        ValueError: an argument out of range, or a product that is not finite.

    Reference: R. Lehoucq, D. Sorensen, C. Yang, ARPACK Users' Guide, SIAM 1998.
    """
    check_integer("num_eigenvalues", num_eigenvalues)
    check_integer("max_iterations", max_iterations)
    if not isinstance(tolerance, int | float) or not 0 < tolerance < 1:
        raise ValueError(wrong("tolerance", "a number between 0 and 1", tolerance, "1e-3"))
    before = operator.num_products
    size, ncv = operator.shape[0], max(4 * num_eigenvalues + 1, 20)  # SciPy's default for 2 k
    if size <= ncv:
        wanted = min(num_eigenvalues, size)
        matrix = operator.matmat(np.eye(size))
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        residuals = _residuals(vectors, matrix @ vectors, values, 0.0)
        low, high = np.arange(wanted), np.arange(size - wanted, size)
    else:
        wanted = num_eigenvalues
        start = np.random.default_rng(seed).standard_normal(size)
        diagonal, off_diagonal = lanczos(operator, start, NORM_STEPS)
        norm = np.abs(eigh_tridiagonal(diagonal, off_diagonal, eigvals_only=True)).max()
        options = {"v0": start, "ncv": ncv, "maxiter": max_iterations}
        vectors = _arpack(operator, 2 * wanted, norm, tolerance, **options)
        products = np.empty_like(vectors)
        for column in range(vectors.shape[1]):
            products[:, column] = operator.matvec(vectors[:, column])
        values = (vectors * products).sum(0)
        order = values.argsort()
        residuals = _residuals(vectors, products, values, norm)[order]
        values = values[order]
        indices, lower = np.arange(len(values)), np.arange(len(values)) < wanted
        if len(values) < 2 * wanted:  # where some are missing, the mean of the spectrum divides:
            lower = values < diagonal[0]  # v^T H v of a random unit vector v estimates it
        low, high = indices[lower][:wanted], indices[~lower][-wanted:]

    def end(indices: Array) -> SpectrumEnd:
        reached = residuals[indices] <= tolerance
        converged = len(indices) == wanted and bool(reached.all())
        return SpectrumEnd(values[indices].tolist(), residuals[indices].tolist(), converged)

    return ExtremeEigenvalues(end(high[::-1]), end(low), operator.num_products - before)


def _arpack(
    operator: SymmetricOperator, number: int, norm: float, tolerance: float, **options
) -> Array:
    """Eigenvectors [P, n] of both ends that converged.

    ARPACK asks for residuals relative to each eigenvalue, which those near zero never reach (all
    at the lower end of a Gauss-Newton matrix). So the spectrum is shifted by 4 norms to between
    3 and 5, and a fifth of the tolerance keeps residuals within the tolerance times the norm.
    """
    shift = 4 * norm if norm > 0 else 1.0
    shifted = LinearOperator(
        operator.shape, matvec=lambda v: operator.matvec(v) + shift * v, dtype=float
    )
    try:
        return eigsh(shifted, number, which="BE", tol=tolerance / 5, **options)[1]
    except ArpackError as error:
        return getattr(error, "eigenvectors", np.empty((operator.shape[0], 0)))


def _residuals(vectors: Array, products: Array, values: Array, norm: float) -> Array:
    """||H v - lambda v|| over the largest |eigenvalue| seen; 0 where H is zero."""
    lengths = np.linalg.norm(products - vectors * values, axis=0)
    largest = max(norm, np.abs(values).max(initial=0.0))
    return lengths / largest if largest > 0 else lengths
