"""Trace of a large symmetric matrix, whole and by blocks, from products with random vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from src.checks import check_integer, check_number
from src.measures.krylov import Array, SymmetricOperator, random_signs

FEWEST_PROBES = 10  # of the rest, before their spread is believed


class Estimate(NamedTuple):
    """An estimate, and its standard error over random vectors."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class Trace:
    """Trace of a matrix whose diagonal consists of B blocks.

    Attributes:
        known: [B], what the sketch gives of each block's trace, without error.
        samples: [n, B], estimates of the rest, of independent mean errors.
        num_products: number of products with the matrix.
    """

    known: Array
    samples: Array
    num_products: int

    def of(self, weights: Sequence[float] | Array | None = None) -> Estimate:
        """Sum over blocks of their trace times a weight, [B]; by default the whole trace."""
        weights = np.ones(len(self.known)) if weights is None else np.asarray(weights, float)
        rest = self.samples @ weights
        error = rest.std(ddof=1) / np.sqrt(len(rest))
        return Estimate(float(self.known @ weights + rest.mean()), float(error))

    @property
    def relative_error(self) -> float:
        """Standard error of the whole trace over its absolute value; 0 where both are 0."""
        value, error = self.of()
        return error / abs(value) if value else np.inf if error else 0.0


def trace(
    operator: SymmetricOperator,
    *,
    sizes: Sequence[int] | None = None,
    tolerance: float = 0.05,
    num_sketched: int = 10,
    max_products: int = 100,
    seed: int = 0,
) -> Trace:
    r"""Hutch++ estimate of a trace, continued until its standard error is small enough.

    .. math:: \mathrm{tr}\, H \approx \mathrm{tr}(Q^\top H Q)
              + \mathrm{mean}_i\, v_i^\top (1 - Q Q^\top)\, H\, (1 - Q Q^\top)\, v_i

    with an orthonormal basis Q [P, k] of H S, where S [P, k] and the v_i are of independent random
    signs. The first term holds most of the large eigenvalues and has no error; the second is
    Hutchinson's estimate of the rest, and its spread gives the standard error. Vectors v_i, at
    least 10, are drawn until that error is at most ``tolerance`` times the trace, or
    ``max_products`` are used up: `Trace.relative_error` says which. An error of ten vectors, at
    which one stops because it is small, is itself low by up to a third. The same terms, taken row
    by row, give the trace of each block on the diagonal, and sum to the whole.

    Args:
        operator: H [P, P].
        sizes: rows of each block, in order, of sum P; by default one block.
        tolerance: standard error to reach, relative to the trace; at least 0.
        num_sketched: k, at the price of 2 k products; no more than P are made.
        max_products: at least 2 k + 10.
        seed: random seed of S and the v_i.

    Raises:
        ValueError: an argument out of range, or a product that is not finite.

    References: R. Meyer, C. Musco, C. Musco, D. Woodruff, Hutch++: Optimal Stochastic Trace
    Estimation, SOSA 2021; M. Hutchinson, A Stochastic Estimator of the Trace of the Influence
    Matrix for Laplacian Smoothing Splines, Communications in Statistics 1989.
    """
    check_integer("num_sketched", num_sketched)
    check_number("tolerance", tolerance, minimum=0, fix="0.05")
    check_integer("max_products", max_products, minimum=2 * num_sketched + FEWEST_PROBES)
    before, size = operator.num_products, operator.shape[0]
    generator = np.random.default_rng(seed)
    starts = np.cumsum([0, *([size] if sizes is None else sizes)])[:-1]
    signs = random_signs(size, min(num_sketched, size), generator)
    basis = np.linalg.qr(np.stack([operator.matvec(v) for v in signs], 1))[0]
    products = np.stack([operator.matvec(q) for q in basis.T], 1)
    # H = Q Q'H + H Q Q' - Q Q'H Q Q' + (1 - Q Q') H (1 - Q Q'); the diagonal of all but the last:
    known = (basis * (2 * products - basis @ (basis.T @ products))).sum(1)
    known, samples = np.add.reduceat(known, starts), []
    for probe in random_signs(size, max_products - 2 * num_sketched, generator):
        product = operator.matvec(probe - basis @ (basis.T @ probe))
        diagonal = probe * (product - basis @ (basis.T @ product))
        samples.append(np.add.reduceat(diagonal, starts))
        if len(samples) >= FEWEST_PROBES:
            found = Trace(known, np.array(samples), operator.num_products - before)
            if found.relative_error <= tolerance:
                break
    return found
