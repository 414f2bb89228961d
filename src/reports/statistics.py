"""Means over seeds and paired differences, with Student's t intervals."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
RESOLUTION = 2.0**-23  # of float32, in which metrics are computed


@dataclass(frozen=True)
class Estimate:
    """The mean of a sample and how well it is known.

    Attributes:
        n: values that were averaged.
        mean: of the sample; None of no values.
        deviation: sample standard deviation, with n - 1; None where n < 2.
        low: lower end of the 95 % interval of the mean; None where n < 2.
        high: its upper end.
        not_finite: values that were left out because they are NaN or infinite.
    """

    n: int
    mean: float | None = None
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    not_finite: int = 0


@dataclass(frozen=True)
class Comparison:
    """Differences between two rows over the seeds that both have.

    Attributes:
        difference: the estimate of the mean of first - second.
        p_value: of the two-sided paired t-test; None with fewer than two pairs, or where all
            differences are the same in float32.
        seeds: of the pairs.
        left_out: seeds with a finite value on one side only.
    """

    difference: Estimate
    p_value: float | None
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]


def estimate(values: Iterable[float | None]) -> Estimate:
    """Mean m, sample standard deviation s, and m ± t s / √n.

    t is the 97.5 % point of Student's distribution with n - 1 degrees of freedom. The interval
    holds for independent, normally distributed values. One value has none.

    Args:
        values: None, NaN and infinite ones are counted and left out.
    """
    values = list(values)
    finite = [value for value in values if value is not None and math.isfinite(value)]
    n, missing = len(finite), len(values) - len(finite)
    if n == 0:
        return Estimate(0, not_finite=missing)
    mean = statistics.fmean(finite)
    if n == 1:
        return Estimate(1, mean, not_finite=missing)
    deviation = statistics.stdev(finite)
    half = t_quantile(n - 1) * deviation / math.sqrt(n)
    return Estimate(n, mean, deviation, mean - half, mean + half, missing)


def t_quantile(degrees_of_freedom: int) -> float:
    """How many standard errors a 95 % interval reaches to each side."""
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, degrees_of_freedom))


def compare(first: Mapping[int, float | None], second: Mapping[int, float | None]) -> Comparison:
    """The paired t-test of first - second.

    Pairing by the seed takes out what both have in common, e.g. the order of the data.

    Args:
        first: values by seed; those that are None, NaN or infinite count as missing.
        second: likewise.
    """
    first, second = _finite(first), _finite(second)
    seeds = tuple(sorted(first.keys() & second.keys()))
    left_out = tuple(sorted(first.keys() ^ second.keys()))
    difference = estimate(first[seed] - second[seed] for seed in seeds)
    largest = max((abs(side[seed]) for side in (first, second) for seed in seeds), default=0.0)
    return Comparison(difference, _p_value(difference, RESOLUTION * largest), seeds, left_out)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values adjusted for their number: Holm, Scand. J. Statist. 6 (1979), p. 65.

    The i-th smallest of m, counted from 0, becomes the largest of (m - j) p_j over j <= i, at
    most 1. None stays, and does not count.
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[place] = largest
    return adjusted


def _finite(values: Mapping[int, float | None]) -> dict[int, float]:
    return {s: v for s, v in values.items() if v is not None and math.isfinite(v)}


def _p_value(difference: Estimate, resolution: float) -> float | None:
    from scipy.stats import t

    if difference.deviation is None or difference.deviation <= resolution:
        return None
    error = difference.deviation / math.sqrt(difference.n)
    return float(2 * t.sf(abs(difference.mean) / error, difference.n - 1))
