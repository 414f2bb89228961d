import numpy as np
import pytest

from src.measures.density import spectral_density
from src.measures.krylov import random_signs
from tests.helpers.matrices import as_operator, symmetric_matrix


def spread(size=200):
    """Eigenvalues of both signs, most of them near zero."""
    return np.sort(np.random.default_rng(size).standard_normal(size) ** 3)


def density_of(values, number, steps, **options):
    return spectral_density(as_operator(symmetric_matrix(values)), number, steps, **options)


def measure_of(values, number):
    """Eigenvalues and the weights that the random vectors give them, [number, P]."""
    values, vectors = np.linalg.eigh(symmetric_matrix(values))
    probes = np.stack(list(random_signs(len(values), number, np.random.default_rng(0))))
    return values, (probes @ vectors) ** 2 / len(values)


def test_the_density_has_the_moments_of_the_probes():
    """m steps integrate polynomials of degree 2 m - 1 exactly, not those beyond."""
    density = density_of(np.linspace(-1, 2, 100), 3, 4)
    values, weights = measure_of(np.linspace(-1, 2, 100), 3)
    for power in range(9):
        expected = (weights * values**power).sum(1).mean()
        moment = np.dot(density.weights, np.power(density.nodes, power))
        assert (moment == pytest.approx(expected, rel=1e-6 if power == 8 else 1e-12)) == (power < 8)


def test_all_steps_give_the_distribution_and_the_negative_fraction_of_the_probes():
    density = density_of(spread(60), 4, 100)
    values, weights = measure_of(spread(60), 4)
    nodes, got = np.array(density.nodes), np.array(density.weights)
    assert (density.num_probes, density.num_products) == (4, 4 * 60)
    assert density.nodes == sorted(density.nodes)
    assert got.min() >= 0
    for x in ((values[1:] + values[:-1]) / 2)[::6]:
        expected = weights.mean(0)[values < x].sum()
        assert got[nodes < x].sum() == pytest.approx(expected, rel=1e-8)
    fractions = weights[:, values < 0].sum(1)
    assert density.negative_fraction == pytest.approx(fractions.mean(), rel=1e-8)
    expected = fractions.std(ddof=1) / np.sqrt(4)
    assert density.negative_fraction_error == pytest.approx(expected, rel=1e-6)
    bumps = np.exp(-(((np.array(density.grid)[:, None] - values) / density.width) ** 2) / 2)
    curves = weights @ bumps.T / np.sqrt(2 * np.pi) / density.width
    assert density.density == pytest.approx(curves.mean(0), rel=1e-6, abs=1e-12)
    expected = curves.std(0, ddof=1) / np.sqrt(4)
    assert density.density_error == pytest.approx(expected, rel=1e-6, abs=1e-10)


def test_the_density_is_a_mixture_of_gaussians():
    density = spectral_density(as_operator(np.diag(spread())), 5, 20, num_points=2000)
    grid, values, nodes = map(np.array, (density.grid, density.density, density.nodes))
    assert np.trapezoid(values, grid) == pytest.approx(1, abs=0.005)
    beyond = 3 * density.width * np.array([-1, 1])
    assert grid[[0, -1]] == pytest.approx(nodes[[0, -1]] + beyond)
    bumps = np.exp(-(((grid[700] - nodes) / density.width) ** 2) / 2)
    expected = bumps @ density.weights / np.sqrt(2 * np.pi) / density.width
    assert values[700] == pytest.approx(expected, rel=1e-12)
    even = spectral_density(as_operator(np.diag([0.0, 1.0, 2.0])), 2, 3)
    midway = np.ptp(even.nodes) / 4  # where each Gaussian has fallen to a third
    assert np.exp(-((midway / even.width) ** 2) / 2) == pytest.approx(1 / 3)
    for value in (0.0, 3.0):  # a single eigenvalue
        density = spectral_density(as_operator(value * np.eye(30)), 2, 5)
        assert density.nodes == pytest.approx([value] * 2, abs=1e-14)
        assert density.weights == pytest.approx([0.5] * 2)
        assert density.width > 0 and np.isfinite(density.density).all()


@pytest.mark.parametrize("num_steps", [5, 60])
@pytest.mark.parametrize("shift", [-0.5, 0.0, 0.3])
def test_the_negative_fraction_lies_within_its_bounds(shift, num_steps):
    density = density_of(spread(150) + shift, 8, num_steps)
    values, weights = measure_of(spread(150) + shift, 8)
    truth = weights.mean(0)[values < 0].sum()  # of these probes
    low, high = density.negative_fraction_bounds
    assert low <= min(truth, density.negative_fraction)
    assert high >= max(truth, density.negative_fraction)
    error = density.negative_fraction_error
    assert abs(truth - (values < 0).mean()) < 4 * error + high - low


@pytest.mark.parametrize("negative", [10, 0])
def test_zero_eigenvalues_do_not_count_as_negative(negative):
    """Half of the eigenvalues vanish up to rounding: their nodes fall on either side of 0."""
    values = [*np.zeros(100), *np.linspace(1, 2, 100 - negative), *np.linspace(-2, -1, negative)]
    for seed in range(3):
        operator = as_operator(symmetric_matrix(values, seed), precision=1e-15)
        density = spectral_density(operator, 10, 60, seed=seed)
        low, high = density.negative_fraction_bounds
        assert density.negative_fraction == pytest.approx(negative / 200, abs=0.003 * negative)
        assert low <= density.negative_fraction
        assert high > 0.4  # what rounding hides


def test_seeds_reproduce_and_arguments_are_checked():
    operator = as_operator(symmetric_matrix(spread()))
    first, again, other = (spectral_density(operator, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    for name in ("num_probes", "lanczos_steps", "num_points"):
        with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 2; got 1"):
            spectral_density(operator, **{name: 1})
