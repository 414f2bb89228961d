from itertools import pairwise

import numpy as np
import pytest

from src.measures.hessian import hessian_operator
from src.measures.trace import trace
from tests.helpers.dense_hessian import dense_gauss_newton, dense_hessian
from tests.helpers.matrices import as_operator, symmetric_matrix
from tests.helpers.objectives import make_objective


def outliers(size=200):
    """A few large eigenvalues, and many of both signs near zero, as networks have."""
    values = 0.1 * np.random.default_rng(size).standard_normal(size)
    values[:6] += [20, 10, 5, 4, 3, -2]
    return values


@pytest.mark.parametrize("sizes", [None, [50, 3, 27]])
def test_estimates_are_right_within_their_errors(sizes):
    """Of the whole and of blocks: deviations over 100 seeds, in standard errors, have unit size."""
    matrix = symmetric_matrix(outliers(80))
    edges = np.cumsum([0, *(sizes or [80])])
    expected = [np.trace(matrix[a:b, a:b]) for a, b in pairwise(edges)]
    weights = np.linspace(1, 2, len(expected))
    deviations = []
    for seed in range(100):
        found = trace(as_operator(matrix), sizes=sizes, max_products=50, tolerance=0, seed=seed)
        value, error = found.of(weights)
        deviations.append((value - expected @ weights) / error)
        parts = [found.of(part).value for part in np.eye(len(expected))]
        assert sum(parts) == pytest.approx(found.of().value, rel=1e-12)
    assert abs(np.mean(deviations)) < 4 / np.sqrt(100)
    assert np.std(deviations) == pytest.approx(1, abs=0.25)


def test_products_end_where_the_error_is_reached():
    operator = as_operator(symmetric_matrix(outliers()))
    limits = {"num_sketched": 5, "max_products": 500}
    for tolerance in (0.1, 0.02, 0.01):
        before = operator.num_products
        found = trace(operator, tolerance=tolerance, **limits)
        assert found.relative_error <= tolerance
        assert found.num_products == operator.num_products - before == 10 + len(found.samples)
    assert 10 < len(found.samples) < 490
    never = trace(operator, tolerance=0, num_sketched=5, max_products=20)
    assert never.num_products == 20 and never.relative_error > 0
    again = trace(operator, tolerance=0, num_sketched=5, max_products=20)
    assert again.of() == never.of()


def test_it_is_more_exact_than_random_vectors_alone():
    """At an equal number of products, against Hutchinson's estimate by hand."""
    matrix, errors = symmetric_matrix(outliers()), []
    for seed in range(50):
        signs = 2 * np.random.default_rng(seed).integers(0, 2, (200, 40)) - 1
        alone = np.mean((signs * (matrix @ signs)).sum(0))
        found = trace(as_operator(matrix), max_products=40, tolerance=0, seed=seed).of().value
        errors.append((found - np.trace(matrix), alone - np.trace(matrix)))
    ours, hutchinson = np.sqrt(np.mean(np.square(errors), 0))
    assert ours < hutchinson / 5


@pytest.mark.parametrize("size", [1, 7, 12])
def test_the_sketch_may_hold_the_whole_matrix(size):
    matrix = symmetric_matrix(np.random.default_rng(0).standard_normal(size))
    found = trace(as_operator(matrix), num_sketched=12, max_products=40, sizes=[1] * size)
    parts = [found.of(part).value for part in np.eye(size)]
    assert parts == pytest.approx(np.diag(matrix).tolist(), abs=1e-12)
    assert found.of().standard_error < 1e-12
    zero = trace(as_operator(np.zeros((size, size))), num_sketched=12, max_products=40)
    assert (zero.of(), zero.relative_error) == ((0, 0), 0)


def test_the_parts_of_a_network_are_those_of_its_dense_hessian():
    objective = make_objective()
    sizes = [w.numel() for w in objective.weights().values()]
    edges = np.cumsum([0, *sizes])
    for kind, dense in (("hessian", dense_hessian), ("gauss_newton", dense_gauss_newton)):
        found = trace(hessian_operator(objective, kind), sizes=sizes, tolerance=0.02)
        diagonal = np.diag(dense(objective))
        for part, start, end in zip(np.eye(len(sizes)), edges, edges[1:]):
            value, error = found.of(part)
            assert abs(value - diagonal[start:end].sum()) <= 4 * error + 1e-12


def test_arguments_are_checked():
    for options, match in (
        ({"num_sketched": 0}, "`num_sketched` must be an integer of at least 1"),
        ({"max_products": 29}, "`max_products` must be an integer of at least 30; got 29"),
        ({"tolerance": -0.1}, "`tolerance` must be a number of at least 0; got -0.1"),
    ):
        with pytest.raises(ValueError, match=match):
            trace(as_operator(np.eye(3)), **options)
