import numpy as np
import pytest
from scipy.sparse.linalg import ArpackError

from src.measures import spectrum
from src.measures.spectrum import extreme_eigenvalues
from tests.helpers.matrices import as_operator, symmetric_matrix


def ends_of(eigenvalues, number=5, **options):
    """The result, and its two ends."""
    found = extreme_eigenvalues(as_operator(symmetric_matrix(eigenvalues)), number, **options)
    return found, found.largest, found.smallest


@pytest.mark.parametrize(
    ("size", "number"), [(1, 5), (6, 5), (9, 5), (10, 5), (21, 5), (22, 5), (300, 5), (90, 1)]
)
def test_both_ends_of_matrices_of_any_size(size, number):
    """Those up to 4 k + 1 rows, at least 20, are diagonalised."""
    values = np.sort(np.random.default_rng(size).standard_normal(size))
    _, largest, smallest = ends_of(values, number, tolerance=1e-8)
    for end, expected in ((largest, values[::-1]), (smallest, values)):
        assert end.eigenvalues == pytest.approx(expected[:number], rel=1e-12, abs=1e-14)
        assert end.converged
        assert max(end.residuals) <= 1e-8


def test_residuals_are_those_of_the_eigenvectors(monkeypatch):
    """Vectors that are a little off: ||H v - lambda v|| / max |lambda|, and their quotients."""
    matrix = np.diag([-4.0, *np.linspace(0, 1, 40), 2.0])
    v, w = np.zeros((2, 42))
    v[:2], w[-1] = (np.cos(0.01), np.sin(0.01)), 1.0
    monkeypatch.setattr(spectrum, "_arpack", lambda *args, **options: np.stack([w, v], 1))
    ends = extreme_eigenvalues(as_operator(matrix), 1, tolerance=1e-3)
    quotient = -4 * np.cos(0.01) ** 2
    assert ends.smallest.eigenvalues == pytest.approx([quotient], rel=1e-14)
    expected = np.linalg.norm(matrix @ v - quotient * v) / 4
    assert ends.smallest.residuals == pytest.approx([expected], rel=2e-4)
    assert not ends.smallest.converged
    assert ends.largest == spectrum.SpectrumEnd([2.0], [0.0], True)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-7])
@pytest.mark.parametrize(
    "values",
    [
        [*np.zeros(200), *np.linspace(1, 100, 9)],  # lower end all zero, as of Gauss-Newton
        -np.linspace(1, 2, 100),
        np.linspace(1e5, 1e5 + 1, 100),
        [*np.linspace(-1e-6, 1e-6, 100), -1.0, 50.0],
        *([value] * size for value in (0.0, -2.0) for size in (3, 50)),
    ],
)
def test_residuals_stay_within_the_tolerance_wherever_the_spectrum_lies(values, tolerance):
    found, *ends = ends_of(values, 3, tolerance=tolerance)
    for end in ends:
        assert end.converged
        assert max(end.residuals) <= tolerance
        nearest = [np.abs(np.array(values) - x).min() for x in end.eigenvalues]
        assert len(nearest) == 3
        assert max(nearest) <= tolerance * np.abs(values).max()
    assert found.num_products < 300


def test_what_has_not_converged_is_left_out():
    """One restart finds the outliers, but not the edges of the bulk; without them nothing."""
    bulk, options = np.linspace(-1, 1, 500), {"tolerance": 1e-10, "max_iterations": 1}
    _, largest, smallest = ends_of(100 + np.array([*bulk, 30.0, 50.0, -40.0]), 3, **options)
    assert largest.eigenvalues == pytest.approx([150.0, 130.0], rel=1e-12)
    assert smallest.eigenvalues == pytest.approx([60.0], rel=1e-12)
    assert max(largest.residuals + smallest.residuals) < 1e-10
    found, *none = ends_of(bulk, **options)
    assert found.num_products > 10
    assert none == [spectrum.SpectrumEnd([], [], False)] * 2
    assert not (largest.converged or smallest.converged)


def test_errors_of_arpack_and_of_rounding_are_no_convergence(monkeypatch):
    matrix, noise = symmetric_matrix(np.linspace(-1, 1, 100) ** 3), np.random.default_rng(0)
    operator = as_operator(matrix)
    operator.multiply = lambda v: matrix @ v + 1e-6 * noise.standard_normal(100)
    ends = extreme_eigenvalues(operator, 2, tolerance=1e-9, max_iterations=20)
    assert not (ends.largest.converged or ends.smallest.converged)

    def fail(*args, **options):
        raise ArpackError(3)

    monkeypatch.setattr(spectrum, "eigsh", fail)
    _, *ends = ends_of(np.linspace(-1, 1, 50))
    assert ends == [spectrum.SpectrumEnd([], [], False)] * 2


def test_seeds_reproduce_and_products_are_counted_without_those_before():
    operator = as_operator(symmetric_matrix(np.linspace(-1, 1, 60)))
    operator.matvec(np.ones(60))
    assert extreme_eigenvalues(operator).num_products == operator.num_products - 1
    values = np.random.default_rng(0).standard_normal(200)
    first, again, other = (ends_of(values, tolerance=1e-2, seed=s)[0] for s in (0, 0, 1))
    assert first == again != other
    assert first.largest.eigenvalues == pytest.approx(other.largest.eigenvalues, rel=1e-2)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_eigenvalues": 0}, "`num_eigenvalues` must be an integer of at least 1; got 0"),
        ({"max_iterations": 0}, "`max_iterations` must be an integer of at least 1; got 0"),
        ({"tolerance": 0}, r"`tolerance` must be a number between 0 and 1; got 0\. Use 1e-3"),
        ({"tolerance": None}, "`tolerance` must be a number between 0 and 1; got None"),
    ],
)
def test_arguments_are_checked(options, match):
    with pytest.raises(ValueError, match=match):
        extreme_eigenvalues(as_operator(np.eye(3)), **options)
