import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from src.reports.statistics import band, estimate

VALUES = [[1.0, 2.0, 5.0], [3.0, 4.0], [2.0, math.nan, 1.0], [0.0, 1.0], [9.0, 2.0]]
CURVES = [pd.Series(values) for values in VALUES]


def test_intervals_are_those_in_closed_form_and_of_scipy():
    # Student's t with one degree of freedom is Cauchy's: its 97.5 % point is tan(0.475 π).
    found, half = estimate([1.0, 3.0]), math.tan(0.475 * math.pi)
    assert (found.n, found.mean, found.deviation) == (2, 2.0, pytest.approx(math.sqrt(2)))
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), rel=1e-12)
    first, second = np.random.default_rng(0).normal(size=(2, 7))
    found = estimate(first - second)
    expected = scipy.stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-12)
    assert found.deviation == pytest.approx((first - second).std(ddof=1), rel=1e-12)


def test_small_samples_and_values_that_are_not_finite():
    one, none = estimate([0.5]), estimate([])
    assert (one.n, one.mean, none.n) == (1, 0.5, 0)
    unknown = [one.deviation, one.low, one.high, none.mean, none.deviation, none.low]
    assert np.isnan(unknown).all()
    found = estimate([1.0, math.nan, math.inf, 2.0])
    assert (found.n, found.mean, found.not_finite) == (2, 1.5, 2)


def test_bands_are_where_every_curve_is_finite_and_of_five_or_more():
    found = band(CURVES, "range")
    assert found.to_dict("index") == {0: {"mean": 3.0, "low": 0.0, "high": 9.0}}
    expected = estimate([1.0, 3.0, 2.0, 0.0, 9.0])
    assert band(CURVES, "interval").loc[0, "low"] == pytest.approx(expected.low)
    incomplete = band(CURVES, "range", complete=False)
    assert incomplete["mean"].tolist() == [3.0, 2.25, 3.0]
    assert incomplete["high"].isna().tolist() == [False, True, True]
    for kind in ("interval", "range"):
        few = band(CURVES[:2], kind)
        assert few["mean"].tolist() == [2.0, 3.0]
        assert few[["low", "high"]].isna().all(axis=None)
