"""Curves of several runs as their mean and a band."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from src.reports.reading import Curve
from src.reports.statistics import estimate

INTERVAL, RANGE = "interval", "range"
BANDS = {
    INTERVAL: "95 % interval of the mean (Student's t)",
    RANGE: "from the smallest to the largest seed",
}


@dataclass(frozen=True)
class Band:
    """The mean of curves where all of them have a finite value.

    Attributes:
        positions: on the horizontal axis, e.g. epochs trained.
        mean: at each of them.
        low: lower edge of the band; empty for a single curve.
        high: upper edge.
    """

    positions: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def band(curves: Sequence[Curve], kind: str) -> Band:
    """The mean of curves and a band around it.

    Args:
        curves: values by position, at least one.
        kind: ``"interval"``: the 95 % interval of the mean; ``"range"``: all curves.
    """
    finite = [{x: y for x, y in curve.items() if math.isfinite(y)} for curve in curves]
    positions = sorted(set.intersection(*(set(curve) for curve in finite)))
    samples = [[curve[x] for curve in finite] for x in positions]
    found = [estimate(sample) for sample in samples]
    if len(curves) == 1:
        low, high = [], []
    elif kind == RANGE:
        low, high = [min(sample) for sample in samples], [max(sample) for sample in samples]
    else:
        low, high = [entry.low for entry in found], [entry.high for entry in found]
    return Band(positions, [entry.mean for entry in found], low, high)
