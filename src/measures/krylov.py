"""Symmetric matrices that are known by their products with vectors, and Lanczos' method."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

Array = NDArray[np.float64]


class NotFiniteError(ValueError):
    """A product of the Hessian holds NaN or infinity, as where training has diverged."""


class SymmetricOperator(LinearOperator):
    """A symmetric matrix H [P, P] that counts its products.

    Args:
        multiply: v [P] -> H v [P].
        size: P.
        precision: relative rounding error of ``multiply``.
        progress: called after each product.

    Attributes:
        num_products: matrix-vector products so far.

    Raises:
        NotFiniteError: on multiplying, a product that is not finite.
    """

    def __init__(
        self,
        multiply: Callable[[Array], Array],
        size: int,
        *,
        precision: float = float(np.finfo(float).eps),
        progress: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(np.dtype(float), (size, size))
        self.multiply = multiply
        self.precision = precision
        self.progress = progress
        self.num_products = 0

    def _matvec(self, vector: Array) -> Array:
        product = self.multiply(vector.reshape(-1))
        self.num_products += 1
        if self.progress is not None:
            self.progress()
        if not np.isfinite(product).all():
            raise NotFiniteError(
                "products of the Hessian must be finite; got NaN or infinity. Measure before "
                "training diverges, or in float64."
            )
        return product

    def _adjoint(self) -> "SymmetricOperator":
        return self


def lanczos(operator: LinearOperator, start: Array, num_steps: int) -> tuple[Array, Array]:
    """Lanczos' tridiagonal matrix, with full reorthogonalisation: each vector against all.

    Args:
        operator: symmetric, [P, P].
        start: [P], not zero.
        num_steps: m, products; fewer where the Krylov space ends before, at the latest at P.

    Returns:
        Diagonal [m] and off-diagonal [m - 1].
    """
    size = operator.shape[0]
    basis = np.empty((min(num_steps, size), size))
    basis[0] = start / np.linalg.norm(start)
    diagonal, off_diagonal, scale = [], [], 0.0
    for step in range(len(basis)):
        vector = operator.matvec(basis[step])
        scale = max(scale, np.linalg.norm(vector))
        diagonal.append(basis[step] @ vector)
        known = basis[: step + 1]
        for _ in range(2):  # once leaves rounding errors that grow from step to step
            vector = vector - known.T @ (known @ vector)
        length = np.linalg.norm(vector)
        if step + 1 == len(basis) or length <= size * np.finfo(float).eps * scale:
            break
        off_diagonal.append(length)
        basis[step + 1] = vector / length
    return np.array(diagonal), np.array(off_diagonal)


def random_signs(size: int, number: int, generator: np.random.Generator) -> Iterator[Array]:
    """Vectors [size] of independent signs, -1 or 1 with probability 1/2 each."""
    return (2.0 * generator.integers(0, 2, size) - 1.0 for _ in range(number))
