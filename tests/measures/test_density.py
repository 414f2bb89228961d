import numpy as np
import pytest

from src.measures.density import spectral_density, trace
from src.measures.krylov import random_signs
from tests.helpers.matrices import as_operator, symmetric_matrix


def spread(size=200):
    """Eigenvalues of both signs, most of them near zero."""
    return np.sort(np.random.default_rng(size).standard_normal(size) ** 3)


def probes_of(size, number, seed=0):
    return list(random_signs(size, number, np.random.default_rng(seed)))


def measure_of(matrix, number, seed=0):
    """Eigenvalues and the weights that the random vectors give them, [number, P]."""
    values, vectors = np.linalg.eigh(matrix)
    probes = np.stack(probes_of(len(matrix), number, seed))
    return values, (probes @ vectors) ** 2 / len(matrix)


def test_the_trace_is_the_mean_over_the_probes():
    matrix = symmetric_matrix(spread())
    operator = as_operator(matrix)
    estimate = trace(operator, 7, seed=3)
    samples = [v @ matrix @ v for v in probes_of(200, 7, 3)]
    assert estimate.value == pytest.approx(np.mean(samples), rel=1e-13)
    assert estimate.standard_error == pytest.approx(np.std(samples, ddof=1) / np.sqrt(7))
    assert estimate.num_probes == operator.num_products == 7


def test_the_trace_of_a_diagonal_matrix_is_exact():
    estimate = trace(as_operator(np.diag(spread())), 2)
    assert estimate.value == pytest.approx(spread().sum(), rel=1e-12)
    assert estimate.standard_error == pytest.approx(0, abs=1e-12)


def test_the_standard_error_is_the_spread_of_estimates():
    """Over many seeds: its mean square is the variance of the estimates about the trace."""
    matrix = symmetric_matrix(spread(50))
    estimates = [trace(as_operator(matrix), 10, seed=seed) for seed in range(400)]
    errors = np.array([e.value for e in estimates]) - np.trace(matrix)
    claimed = np.mean([e.standard_error**2 for e in estimates])
    assert abs(errors.mean()) < 4 * np.sqrt(claimed / 400)
    assert np.mean(errors**2) == pytest.approx(claimed, rel=0.25)


def test_the_density_has_the_moments_of_the_probes():
    """m steps integrate polynomials of degree 2 m - 1 exactly, not those beyond."""
    matrix = symmetric_matrix(np.linspace(-1, 2, 100))
    density = spectral_density(as_operator(matrix), 3, 4)
    values, weights = measure_of(matrix, 3)
    for power in range(8):
        expected = (weights * values**power).sum(1).mean()
        moment = np.dot(density.weights, np.power(density.nodes, power))
        assert moment == pytest.approx(expected, rel=1e-12)
    beyond = np.dot(density.weights, np.power(density.nodes, 8))
    assert beyond != pytest.approx((weights * values**8).sum(1).mean(), rel=1e-6)


def test_all_steps_give_the_distribution_of_the_probes():
    matrix = symmetric_matrix(spread(60))
    density = spectral_density(as_operator(matrix), 4, 100)
    values, weights = measure_of(matrix, 4)
    assert density.num_products == 4 * 60
    gaps = (values[1:] + values[:-1]) / 2
    for x in gaps[::6]:
        got = np.array(density.weights)[np.array(density.nodes) < x].sum()
        assert got == pytest.approx(weights.mean(0)[values < x].sum(), rel=1e-8)


def test_the_distribution_is_that_of_the_eigenvalues():
    values = np.random.default_rng(5).standard_normal(500)
    density = spectral_density(as_operator(symmetric_matrix(values)), 20, 60)
    nodes, weights = np.array(density.nodes), np.array(density.weights)
    for x in (-2, -1, -0.5, -0.1, 0.1, 0.5, 1, 2):
        assert weights[nodes < x].sum() == pytest.approx((values < x).mean(), abs=0.04)


def test_nodes_are_ascending_and_weights_add_up_to_one():
    density = spectral_density(as_operator(symmetric_matrix(spread())), 5, 20)
    assert len(density.nodes) == len(density.weights) == 100
    assert density.nodes == sorted(density.nodes)
    assert sum(density.weights) == pytest.approx(1, rel=1e-13)
    assert min(density.weights) >= 0
    assert density.num_products == 100
    assert density.num_probes == 5


def test_the_density_is_a_mixture_of_gaussians():
    density = spectral_density(as_operator(np.diag(spread())), 5, 20, num_points=2000)
    grid, values = np.array(density.grid), np.array(density.density)
    assert np.trapezoid(values, grid) == pytest.approx(1, abs=0.005)
    assert grid[0] == pytest.approx(density.nodes[0] - 3 * density.width)
    assert grid[-1] == pytest.approx(density.nodes[-1] + 3 * density.width)
    x = grid[700]
    squares = ((x - np.array(density.nodes)) / density.width) ** 2
    bumps = np.exp(-squares / 2) / np.sqrt(2 * np.pi) / density.width
    assert values[700] == pytest.approx(bumps @ density.weights, rel=1e-12)


def test_the_width_lets_gaussians_of_even_nodes_fall_to_a_third_midway():
    density = spectral_density(as_operator(np.diag([0.0, 1.0, 2.0])), 2, 3)
    spacing = np.ptp(density.nodes) / 2
    assert np.exp(-((spacing / 2 / density.width) ** 2) / 2) == pytest.approx(1 / 3)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_single_eigenvalue(value):
    density = spectral_density(as_operator(value * np.eye(30)), 2, 5)
    assert density.nodes == pytest.approx([value] * 2, abs=1e-14)
    assert density.weights == pytest.approx([0.5] * 2)
    assert density.width > 0
    assert np.isfinite(density.density).all()


@pytest.mark.parametrize("num_steps", [5, 20, 60])
@pytest.mark.parametrize("shift", [-0.5, 0.0, 0.3])
def test_the_negative_fraction_lies_within_its_bounds(shift, num_steps):
    values = spread(150) + shift
    matrix = symmetric_matrix(values)
    density = spectral_density(as_operator(matrix), 8, num_steps)
    values, weights = measure_of(matrix, 8)
    truth = weights.mean(0)[values < 0].sum()  # of these probes
    low, high = density.negative_fraction_bounds
    assert low <= truth <= high
    assert low <= density.negative_fraction <= high
    error = density.negative_fraction_error
    assert abs(truth - (values < 0).mean()) < 4 * error + high - low


@pytest.mark.parametrize("num_steps", [10, 20, 40])
def test_the_bounds_close_with_more_steps(num_steps):
    matrix = symmetric_matrix(np.linspace(-1, 2, 300))
    low, high = spectral_density(as_operator(matrix), 4, num_steps).negative_fraction_bounds
    assert low < 1 / 3 < high < low + 3.2 / num_steps


def test_the_error_of_the_negative_fraction_is_over_the_probes():
    matrix = symmetric_matrix(spread(60))
    density = spectral_density(as_operator(matrix), 6, 60)
    values, weights = measure_of(matrix, 6)
    fractions = weights[:, values < 0].sum(1)
    assert density.negative_fraction == pytest.approx(fractions.mean(), rel=1e-8)
    expected = fractions.std(ddof=1) / np.sqrt(6)
    assert density.negative_fraction_error == pytest.approx(expected, rel=1e-6)


def test_zero_eigenvalues_do_not_count_as_negative():
    """Half of the eigenvalues vanish up to rounding: their nodes fall on either side of 0."""
    values = np.array([*np.zeros(100), *np.linspace(1, 2, 90), *np.linspace(-2, -1, 10)])
    for seed in range(5):
        operator = as_operator(symmetric_matrix(values, seed), precision=1e-15)
        density = spectral_density(operator, 10, 60, seed=seed)
        assert density.negative_fraction == pytest.approx(0.05, abs=0.03)
        low, high = density.negative_fraction_bounds
        assert low <= density.negative_fraction
        assert high > 0.4  # what rounding hides


def test_no_negative_eigenvalue_up_to_rounding():
    values = np.array([*np.zeros(100), *np.linspace(1, 2, 50)])
    density = spectral_density(as_operator(symmetric_matrix(values)), 10, 60)
    assert density.negative_fraction == 0
    assert density.negative_fraction_bounds[0] == 0


@pytest.mark.parametrize("sign", [-1, 1])
def test_definite_matrices(sign):
    density = spectral_density(as_operator(symmetric_matrix(sign * np.linspace(1, 2, 50))), 3, 10)
    assert density.negative_fraction == pytest.approx(float(sign < 0))
    low, high = density.negative_fraction_bounds
    assert (low == 0) if sign > 0 else (high == pytest.approx(1))


def test_seeds_reproduce():
    matrix = symmetric_matrix(spread())
    first, again, other = (spectral_density(as_operator(matrix), 3, 8, seed=s) for s in (0, 0, 1))
    assert first == again
    assert first.nodes != other.nodes
    assert trace(as_operator(matrix), 3) == trace(as_operator(matrix), 3)
    assert trace(as_operator(matrix), 3) != trace(as_operator(matrix), 3, seed=1)


@pytest.mark.parametrize(
    ("function", "options", "match"),
    [
        (trace, {"num_probes": 1}, "`num_probes` must be an integer of at least 2; got 1"),
        (spectral_density, {"num_probes": 1}, "`num_probes` must be an integer of at least 2"),
        (spectral_density, {"lanczos_steps": 1}, "`lanczos_steps` must be an integer of at least"),
        (spectral_density, {"num_points": 1}, "`num_points` must be an integer of at least 2"),
    ],
)
def test_arguments_are_checked(function, options, match):
    with pytest.raises(ValueError, match=match):
        function(as_operator(np.eye(3)), **options)
