import numpy as np
import pytest
from scipy.linalg import eigh_tridiagonal

from src.measures.krylov import SymmetricOperator, lanczos, random_signs
from tests.helpers.matrices import as_operator, symmetric_matrix


def test_the_operator_multiplies_vectors_and_matrices_and_counts():
    matrix, calls = symmetric_matrix(np.arange(6.0)), []
    operator = SymmetricOperator(matrix.dot, 6, progress=lambda: calls.append(None))
    other = np.random.default_rng(1).standard_normal((6, 3))
    assert np.allclose(operator @ other, matrix @ other, rtol=1e-14)
    assert operator.num_products == len(calls) == 3
    assert np.allclose(operator.rmatvec(other[:, 0]), matrix @ other[:, 0], rtol=1e-14)
    for value in (np.nan, np.inf):
        operator = SymmetricOperator(lambda v, value=value: value * v, 3)
        with pytest.raises(ValueError, match=r"must be finite; got NaN or infinity.*float64\."):
            operator.matvec(np.ones(3))


def test_the_lanczos_matrix_is_that_of_powers_made_orthogonal():
    """The slow, obvious way: QR of v, H v, H^2 v, ..."""
    matrix = symmetric_matrix(np.linspace(-1, 2, 12))
    start = np.random.default_rng(3).standard_normal(12)
    powers = np.stack([np.linalg.matrix_power(matrix, k) @ start for k in range(5)], 1)
    basis = np.linalg.qr(powers)[0]
    expected = basis.T @ matrix @ basis
    diagonal, off_diagonal = lanczos(as_operator(matrix), start, 5)
    assert diagonal == pytest.approx(np.diag(expected), abs=1e-10)
    assert off_diagonal == pytest.approx(np.abs(np.diag(expected, 1)), abs=1e-10)


@pytest.mark.parametrize(
    ("values", "distinct"), [(np.linspace(-3, 5, 40), 40), ([2.0] * 20 + [-1.0] * 10, 2)]
)
def test_lanczos_gives_all_eigenvalues_and_stops_where_the_krylov_space_ends(values, distinct):
    operator = as_operator(symmetric_matrix(values))
    start = np.random.default_rng(2).standard_normal(len(values))
    diagonal, off_diagonal = lanczos(operator, start, 100)
    assert operator.num_products == len(diagonal) == len(off_diagonal) + 1 == distinct
    nodes = eigh_tridiagonal(diagonal, off_diagonal, eigvals_only=True)
    assert np.abs(nodes - np.unique(values)).max() < 1e-12


def test_outliers_leave_no_copies_of_themselves():
    """Without reorthogonalisation a large eigenvalue is found again and again."""
    operator = as_operator(symmetric_matrix([1e4, 1e3, *np.linspace(-1, 1, 198)]))
    nodes = eigh_tridiagonal(*lanczos(operator, np.ones(200), 120), eigvals_only=True)
    assert (nodes > 100).sum() == 2


def test_random_signs_follow_their_generator():
    first, second = random_signs(1000, 2, np.random.default_rng(0))
    assert set(first) == {-1.0, 1.0} and abs(first.mean()) < 0.15
    assert not np.array_equal(first, second)
    assert np.array_equal(first, next(random_signs(1000, 1, np.random.default_rng(0))))
