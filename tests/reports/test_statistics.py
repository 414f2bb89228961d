"""Means, intervals and paired tests, against closed forms and scipy."""

import math

import numpy as np
import pytest
import scipy.stats

from src.reports.statistics import compare, estimate, holm, t_quantile


def test_two_values_have_an_interval_in_closed_form():
    # Student's t with one degree of freedom is Cauchy's: its 97.5 % point is tan(0.475 π).
    found = estimate([1.0, 3.0])
    half = math.tan(0.475 * math.pi) * math.sqrt(2) / math.sqrt(2)
    assert (found.n, found.mean, found.deviation) == (2, 2.0, math.sqrt(2))
    assert found.low == pytest.approx(2 - half, rel=1e-12)
    assert found.high == pytest.approx(2 + half, rel=1e-12)


def test_intervals_are_those_of_scipy():
    values = np.random.default_rng(0).normal(size=7)
    found = estimate(values.tolist())
    expected = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-12)
    assert found.deviation == pytest.approx(values.std(ddof=1), rel=1e-12)


def test_intervals_cover_the_mean_as_often_as_they_say():
    draws = np.random.default_rng(1).normal(2.0, 3.0, size=(2000, 3))
    covered = [found.low < 2.0 < found.high for found in map(estimate, draws.tolist())]
    assert np.mean(covered) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 2000))


def test_one_value_has_no_interval_and_none_has_no_mean():
    one, none = estimate([0.5]), estimate([])
    assert (one.n, one.mean, one.deviation, one.low, one.high) == (1, 0.5, None, None, None)
    assert (none.n, none.mean) == (0, None)


def test_values_that_are_not_finite_are_counted_and_left_out():
    found = estimate([1.0, math.nan, None, math.inf, 2.0])
    assert (found.n, found.mean, found.not_finite) == (2, 1.5, 3)


def test_paired_differences_are_those_of_scipy():
    first, second = np.random.default_rng(2).normal(size=(2, 6))
    found = compare(dict(enumerate(first.tolist())), dict(enumerate(second.tolist())))
    expected = scipy.stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-10)
    assert (found.difference.low, found.difference.high) == pytest.approx(tuple(interval))
    assert found.difference.mean == pytest.approx((first - second).mean())


def test_only_seeds_of_both_sides_are_paired():
    found = compare({0: 1.0, 1: 2.0, 2: None, 5: 1.0}, {0: 0.5, 1: 1.0, 2: 3.0, 4: 1.0})
    assert (found.seeds, found.left_out) == ((0, 1), (2, 4, 5))
    assert (found.difference.n, found.difference.mean) == (2, 0.75)


def test_equal_differences_have_no_p_value():
    # In float32 these three differences are one number; a p value of their rounding means nothing.
    first = {seed: float(np.float32(0.9 + 0.01 * seed)) for seed in range(3)}
    second = {seed: float(np.float32(0.8 + 0.01 * seed)) for seed in range(3)}
    assert compare(first, second).p_value is None
    assert compare({0: 1.0}, {0: 2.0}).p_value is None
    assert compare({}, {}).difference.n == 0


def test_holm_adjusts_by_hand():
    # 4 * 0.005 = 0.02, 3 * 0.01 = 0.03, 2 * 0.03 = 0.06, 1 * 0.04 < 0.06
    found = holm([0.01, 0.04, None, 0.03, 0.005])
    assert found[:2] + found[3:] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert found[2] is None
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_quantile_of_many_degrees_of_freedom_is_that_of_the_normal_distribution():
    assert t_quantile(10**7) == pytest.approx(1.959964, abs=1e-6)
