import numpy as np
import pytest
from scipy.sparse.linalg import ArpackError

from src.measures import spectrum
from src.measures.spectrum import extreme_eigenvalues
from tests.helpers.matrices import as_operator, symmetric_matrix


def ends_of(eigenvalues, number=5, **options):
    return extreme_eigenvalues(as_operator(symmetric_matrix(eigenvalues)), number, **options)


@pytest.mark.parametrize("size", [1, 2, 6, 9, 10, 20, 21, 22, 80, 300])
def test_both_ends_of_matrices_of_any_size(size):
    """Those up to 21 rows are diagonalised."""
    values = np.sort(np.random.default_rng(size).standard_normal(size))
    ends = ends_of(values, tolerance=1e-8)
    number = min(5, size)
    assert ends.largest.eigenvalues == pytest.approx(values[::-1][:number], rel=1e-12, abs=1e-14)
    assert ends.smallest.eigenvalues == pytest.approx(values[:number], rel=1e-12, abs=1e-14)
    assert ends.largest.converged and ends.smallest.converged
    assert max(ends.largest.residuals + ends.smallest.residuals) <= 1e-8


@pytest.mark.parametrize("number", [1, 2, 7])
def test_the_number_of_eigenvalues(number):
    values = np.linspace(-2, 3, 100) ** 3
    ends = ends_of(values, number, tolerance=1e-6)
    assert ends.largest.eigenvalues == pytest.approx(values[::-1][:number], rel=1e-9)
    assert ends.smallest.eigenvalues == pytest.approx(values[:number], rel=1e-9)


def test_products_are_counted_without_those_before():
    calls = []
    matrix = symmetric_matrix(np.linspace(-1, 1, 60))
    operator = as_operator(matrix, progress=lambda: calls.append(None))
    operator.matvec(np.ones(60))
    ends = extreme_eigenvalues(operator)
    assert ends.num_products == operator.num_products - 1 == len(calls) - 1


def test_residuals_are_those_of_the_eigenvectors(monkeypatch):
    """Vectors that are a little off: ||H v - lambda v|| / max |lambda|, and their quotients."""
    matrix = np.diag([-4.0, *np.linspace(0, 1, 40), 2.0])
    v, w = np.zeros((2, 42))
    v[0], v[1] = np.cos(0.01), np.sin(0.01)
    w[-1] = 1.0
    monkeypatch.setattr(spectrum, "_arpack", lambda *args, **options: np.stack([w, v], 1))
    ends = extreme_eigenvalues(as_operator(matrix), 1, tolerance=1e-3)
    quotient = -4 * np.cos(0.01) ** 2
    assert ends.smallest.eigenvalues == pytest.approx([quotient], rel=1e-14)
    expected = np.linalg.norm(matrix @ v - quotient * v) / 4
    assert ends.smallest.residuals == pytest.approx([expected], rel=2e-4)
    assert ends.largest.eigenvalues == [2.0]
    assert ends.largest.residuals == [0.0]
    assert (ends.smallest.converged, ends.largest.converged) == (False, True)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize(
    "values",
    [
        [*np.zeros(200), *np.linspace(1, 100, 9)],  # lower end all zero, as of Gauss-Newton
        -np.linspace(1, 2, 100),
        np.linspace(1e5, 1e5 + 1, 100),
        [*np.linspace(-1e-6, 1e-6, 100), -1.0, 50.0],
    ],
)
def test_residuals_stay_within_the_tolerance_wherever_the_spectrum_lies(values, tolerance):
    operator = as_operator(symmetric_matrix(values))
    ends = extreme_eigenvalues(operator, 3, tolerance=tolerance)
    assert ends.largest.converged and ends.smallest.converged
    for end in (ends.largest, ends.smallest):
        assert max(end.residuals) <= tolerance
        bounds = tolerance * np.abs(values).max()
        nearest = [np.abs(np.array(values) - x).min() for x in end.eigenvalues]
        assert max(nearest) <= bounds
    assert ends.num_products < 300


def test_what_has_not_converged_is_left_out():
    """One restart finds the outliers, but not the edges of the bulk."""
    values = [*np.linspace(-1, 1, 500), 30.0, 50.0, -40.0]
    ends = ends_of(values, 3, tolerance=1e-10, max_iterations=1)
    assert not ends.largest.converged
    assert not ends.smallest.converged
    assert ends.largest.eigenvalues == pytest.approx([50.0, 30.0], rel=1e-12)
    assert ends.smallest.eigenvalues == pytest.approx([-40.0], rel=1e-12)
    assert max(ends.largest.residuals + ends.smallest.residuals) < 1e-10


def test_nothing_converged():
    ends = ends_of(np.linspace(-1, 1, 500), tolerance=1e-12, max_iterations=1)
    for end in (ends.largest, ends.smallest):
        assert end.eigenvalues == end.residuals == []
        assert not end.converged
    assert ends.num_products > 10


def test_an_error_of_arpack_is_no_convergence(monkeypatch):
    def fail(*args, **options):
        raise ArpackError(3)

    monkeypatch.setattr(spectrum, "eigsh", fail)
    ends = ends_of(np.linspace(-1, 1, 50))
    assert not ends.largest.converged
    assert ends.smallest.eigenvalues == []


def test_rounding_errors_above_the_tolerance_are_no_convergence():
    matrix = symmetric_matrix(np.linspace(-1, 1, 100) ** 3)
    noise = np.random.default_rng(0)

    def multiply(vector):
        return matrix @ vector + 1e-6 * noise.standard_normal(100)

    operator = as_operator(matrix)
    operator.multiply = multiply
    ends = extreme_eigenvalues(operator, 2, tolerance=1e-9, max_iterations=20)
    assert not (ends.largest.converged or ends.smallest.converged)


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0])
@pytest.mark.parametrize("size", [3, 50])
def test_multiples_of_the_identity(value, size):
    ends = extreme_eigenvalues(as_operator(value * np.eye(size)), 2)
    assert ends.largest.eigenvalues == pytest.approx([value] * 2, abs=1e-13)
    assert ends.smallest.eigenvalues == pytest.approx([value] * 2, abs=1e-13)
    assert ends.largest.converged and ends.smallest.converged


def test_seeds_reproduce():
    values = np.random.default_rng(0).standard_normal(200)
    first, again, other = (ends_of(values, tolerance=1e-2, seed=s) for s in (0, 0, 1))
    assert first == again
    assert first != other
    assert first.largest.eigenvalues == pytest.approx(other.largest.eigenvalues, rel=1e-2)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_eigenvalues": 0}, "`num_eigenvalues` must be an integer of at least 1; got 0"),
        ({"max_iterations": 0}, "`max_iterations` must be an integer of at least 1; got 0"),
        ({"tolerance": 0}, r"`tolerance` must be a number between 0 and 1; got 0\. Use 1e-3"),
        ({"tolerance": 1.5}, r"`tolerance` must be a number between 0 and 1; got 1\.5"),
        ({"tolerance": None}, "`tolerance` must be a number between 0 and 1; got None"),
    ],
)
def test_arguments_are_checked(options, match):
    with pytest.raises(ValueError, match=match):
        extreme_eigenvalues(as_operator(np.eye(3)), **options)
