"""Spectral density of a large symmetric matrix, from products with random vectors."""

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.stats import norm as normal
from scipy.stats import sem

from src.checks import check_integer
from src.measures.krylov import Array, SymmetricOperator, lanczos, random_signs

ROUNDING = 100  # a node counts as zero below this many rounding errors of the largest one


@dataclass(frozen=True)
class SpectralDensity:
    """How the eigenvalues of a matrix are distributed.

    Attributes:
        nodes, weights: point masses of sum 1, in ascending order.
        grid: evenly spaced points, over all nodes and three widths beyond.
        density: values on the grid, with each node as a Gaussian; the integral is 1.
        density_error: their standard errors over the random vectors.
        width: standard deviation of these Gaussians.
        negative_fraction: weight of the nodes below 0.
        negative_fraction_error: its standard error over the random vectors.
        negative_fraction_bounds: its bounds for these random vectors, see `spectral_density`.
        num_probes, num_products: numbers of random vectors, and of products with the matrix.
    """

    nodes: list[float]
    weights: list[float]
    grid: list[float]
    density: list[float]
    density_error: list[float]
    width: float
    negative_fraction: float
    negative_fraction_error: float
    negative_fraction_bounds: tuple[float, float]
    num_probes: int
    num_products: int


def spectral_density(
    operator: SymmetricOperator,
    num_probes: int = 10,
    lanczos_steps: int = 30,
    *,
    num_points: int = 256,
    seed: int = 0,
) -> SpectralDensity:
    r"""Stochastic Lanczos quadrature of the density of the eigenvalues.

    .. math:: \frac{1}{P} \sum_{p=1}^P \delta(\lambda - \lambda_p) \approx
              \mathrm{mean}_i \sum_{j=1}^m w_{ij}\, \delta(\lambda - \theta_{ij})

    with the eigenvalues theta_ij of the tridiagonal matrix that m steps from a vector v_i of
    random signs give, and the squared first components w_ij of its eigenvectors. For each i the
    sum has the first 2 m moments of v_i's own density, in which eigenvectors q_p weigh
    (q_p^T v_i)^2 / P; the mean of those over v_i is the density.

    The **negative fraction** is resolved as far as nodes are from one another. Where most
    eigenvalues are near 0, one or two nodes of large weight stand for all of them, and their
    sign says little. For each v_i the true fraction lies between the weight of the nodes below
    0 without and with the node on either side of 0 (Chebyshev, Markov and Stieltjes):
    ``negative_fraction_bounds``, averaged over i. The random vectors add the standard error.
    Nodes within 100 rounding errors of 0, relative to the largest, count as zero.

    Args:
        operator: H.
        num_probes: number of vectors; at least 2.
        lanczos_steps: m, products for each vector; at least 2, no more than P are made.
        num_points: points of the grid; at least 2.
        seed: random seed of the vectors.

    Raises:
        ValueError: an argument out of range, or a product that is not finite.

    References: S. Ubaru, J. Chen, Y. Saad, Fast Estimation of tr(f(A)) via Stochastic Lanczos
    Quadrature, SIAM J. Matrix Anal. Appl. 2017; for networks B. Ghorbani, S. Krishnan, Y. Xiao,
    An Investigation into Neural Net Optimization via Hessian Eigenvalue Density, ICML 2019;
    default width: L. Lin, Y. Saad, C. Yang, Approximating Spectral Densities of Large Matrices,
    SIAM Review 2016.
    """
    check_integer("num_probes", num_probes, minimum=2)
    check_integer("lanczos_steps", lanczos_steps, minimum=2)
    check_integer("num_points", num_points, minimum=2)
    before = operator.num_products
    probes = random_signs(operator.shape[0], num_probes, np.random.default_rng(seed))
    rules = []  # nodes, ascending, and weights of the Gauss rule for each vector's density
    for probe in probes:
        nodes, vectors = eigh_tridiagonal(*lanczos(operator, probe, lanczos_steps))
        rules.append((nodes, vectors[0] ** 2))
    nodes, weights = (np.concatenate(parts) for parts in zip(*rules))
    order = nodes.argsort()
    nodes, weights = nodes[order], weights[order] / num_probes

    zero = ROUNDING * operator.precision * np.abs(nodes).max()
    fractions = np.array([_negative_fraction(*rule, zero) for rule in rules])
    low, fraction, high = fractions.mean(0).tolist()

    extent = np.ptp(nodes) or np.abs(nodes).max() or 1.0
    width = float(extent / (lanczos_steps - 1) / sqrt(8 * log(3)))  # a third midway of even nodes
    grid = np.linspace(nodes[0] - 3 * width, nodes[-1] + 3 * width, num_points)
    densities = [normal.pdf(grid[:, None], theta, width) @ w for theta, w in rules]
    return SpectralDensity(
        nodes=nodes.tolist(),
        weights=weights.tolist(),
        grid=grid.tolist(),
        density=np.mean(densities, 0).tolist(),
        density_error=sem(densities).tolist(),
        width=width,
        negative_fraction=fraction,
        negative_fraction_error=float(sem(fractions[:, 1])),
        negative_fraction_bounds=(low, high),
        num_probes=num_probes,
        num_products=operator.num_products - before,
    )


def _negative_fraction(nodes: Array, weights: Array, zero: float) -> tuple[float, float, float]:
    """Weight below 0 of one vector's density: the least, that of the nodes, and the most."""
    below = np.cumsum([0.0, *weights])  # below[j]: weight of the first j nodes
    first = np.searchsorted(nodes, -zero)  # the first node that is not negative
    after = max(first + 1, np.searchsorted(nodes, zero, side="right"))
    return below[max(first - 1, 0)], below[first], below[min(after, len(nodes))]
