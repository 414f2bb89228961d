"""Means over seeds and bands of curves, with Student's t intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

INTERVAL, RANGE = "interval", "range"
BANDS = {INTERVAL: "95 % interval of the mean (Student's t)", RANGE: "smallest to largest seed"}
FEWEST_IN_BAND = 5  # seeds; fewer are drawn as single lines


class Estimate(NamedTuple):
    """Mean of a sample and how well it is known, see `estimates`."""

    n: int = 0
    not_finite: int = 0
    mean: float = math.nan
    deviation: float = math.nan
    low: float = math.nan
    high: float = math.nan


def estimates(values: pd.Series) -> pd.DataFrame:
    """Mean m, sample standard deviation s, and m ± t s / √n of the values of each index entry.

    t is the 97.5 % point of Student's distribution with n - 1 degrees of freedom. The interval
    holds for independent, normally distributed values.

    Args:
        values: one value per seed, under an index that repeats for each seed. Those that are NaN
            or infinite are counted and left out.

    Returns:
        By index entry the fields of `Estimate`; the last three are NaN where n < 2.
    """
    finite = values.where(np.isfinite(values))
    grouped = finite.groupby(level=list(range(values.index.nlevels)))
    found = grouped.agg(n="count", not_finite="size", mean="mean", deviation="std")
    found["not_finite"] -= found["n"]
    t = stats.t.ppf(0.975, found["n"].to_numpy() - 1.0)
    half = t * found["deviation"] / np.sqrt(found["n"])
    return found.assign(low=found["mean"] - half, high=found["mean"] + half)


def estimate(values: Sequence[float]) -> Estimate:
    """The estimate of one sample, see `estimates`; of no values n is 0."""
    if not len(values):
        return Estimate()
    found = estimates(pd.Series(list(values), [0] * len(values), dtype=float))
    return Estimate(*next(found.itertuples(index=False)))


def band(curves: Sequence[pd.Series], kind: str, *, complete: bool = True) -> pd.DataFrame:
    """The mean of curves and a band around it.

    Args:
        curves: values by position, at least one.
        kind: ``"interval"``: the 95 % interval of the mean; ``"range"``: all curves.
        complete: whether only positions count where all curves have a finite value.

    Returns:
        Columns ``mean``, ``low`` and ``high`` by position; the last two NaN below five values.
    """
    together = pd.concat(curves)
    found = estimates(together)
    if kind == RANGE:
        grouped = together.groupby(level=0)
        found = found.assign(low=grouped.min(), high=grouped.max())
    found.loc[found["n"] < FEWEST_IN_BAND, ["low", "high"]] = np.nan
    kept = found["n"] >= (len(curves) if complete else 1)
    return found.loc[kept, ["mean", "low", "high"]]
