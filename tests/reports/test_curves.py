"""Means of curves and bands around them."""

import math

import pytest

from src.reports.curves import band
from src.reports.statistics import estimate

CURVES = [{0: 1.0, 1: 2.0, 2: 5.0}, {0: 3.0, 1: 4.0}, {0: 2.0, 1: math.nan, 2: 1.0}]


def test_only_epochs_where_every_curve_is_finite_are_averaged():
    found = band(CURVES[:2], "range")
    assert (found.positions, found.mean) == ([0, 1], [2.0, 3.0])
    assert (found.low, found.high) == ([1.0, 2.0], [3.0, 4.0])
    assert band(CURVES, "range").positions == [0]


def test_the_interval_is_that_of_the_mean():
    found, expected = band(CURVES, "interval"), estimate([1.0, 3.0, 2.0])
    assert (found.low, found.high) == (pytest.approx([expected.low]), [expected.high])


@pytest.mark.parametrize("kind", ["interval", "range"])
def test_one_curve_has_no_band(kind):
    found = band(CURVES[:1], kind)
    assert found.mean == [1.0, 2.0, 5.0]
    assert (found.low, found.high) == ([], [])
