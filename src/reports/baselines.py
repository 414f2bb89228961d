"""Rows of the two forecasts that know nothing, made of the errors that runs report of them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from src.reports.grouping import Group
from src.reports.metrics import final_metrics
from src.reports.naming import NETWORK, Settings, label_of, unused
from src.reports.reading import StoredRun
from src.reports.swept import data_of

ERRORS = {"last frame repeated": "rmse_persistence", "linear extrapolation": "rmse_linear"}
TOLERANCE = 1e-3  # relative, of rounding on another number of threads


def baseline_rows(groups: Sequence[Group]) -> list[Group]:
    """A row of each baseline for each data on which runs were tested; none of other tasks.

    The errors depend on the data alone. So runs share a row that have the same values at the keys
    of the data that rows are named after, unless their errors differ, e.g. because of a horizon
    that is no such key. A row has ``rmse`` and ``skill`` of each test set, also per step ahead.
    """
    different: list[tuple[Group, dict[str, float]]] = []
    for group in groups:
        for run in group.finished.values():
            errors = _errors(run)
            same = (errors_of for other, errors_of in different if data_of(other) == data_of(group))
            if errors and not any(_agree(errors, errors_of) for errors_of in same):
                different.append((group, errors))
    rows: list[Group] = []
    for name in ERRORS:
        for group, errors in different:
            if scores := _scores(errors, name):
                named: Settings = {NETWORK: name} | data_of(group)
                label = unused(label_of(named), [row.label for row in rows])
                config = {k: v for k, v in group.config.items() if k.startswith("data.")}
                summary = {"status": "finished", "num_parameters": 0, "test": scores}
                run = StoredRun(Path(), config, summary)
                rows.append(Group(label, name, config, named, {}, (run,)))
    return rows


def _errors(run: StoredRun) -> dict[str, float]:
    """Errors of both baselines on the test sets: ``test/beyond/rmse_linear/01``, ...

    Those beside the scores of a network made strict are the same ones.
    """
    metrics = final_metrics(run).items()
    tests = [n for n, _ in metrics if n.startswith("test/") and not n.startswith("test/strict/")]
    parts = {name: name.split("/") for name in tests}
    return {n: v for n, v in metrics if n in parts and any(e in parts[n] for e in ERRORS.values())}


def _agree(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    if one.keys() != other.keys():
        return False
    return all(math.isclose(one[name], other[name], rel_tol=TOLERANCE) for name in one)


def _scores(errors: Mapping[str, float], name: str) -> dict[str, float]:
    """RMSE and skill of a baseline, as `src.measures.ForecastScores` defines them."""
    own = ERRORS[name]
    (other,) = set(ERRORS.values()) - {own}
    scores: dict[str, float] = {}
    for whole in [n for n in errors if n.endswith(f"/{own}")]:
        start = whole.removesuffix(own)  # of the test set's names
        ends = [n.removeprefix(whole) for n in errors if n.startswith(whole)]  # "", "/01", ...
        rmse, rival = (
            pd.Series([errors.get(f"{start}{error}{end}", math.nan) for end in ends], ends)
            for error in (own, other)
        )
        better = np.fmin(rmse, rival) ** 2
        skill = 1 - rmse**2 / better
        skill[""] = 1 - (rmse.drop("") ** 2).mean() / better.drop("").mean()
        for score, values in (("rmse", rmse), ("skill", skill.dropna())):
            scores |= {f"{start}{score}{end}": value for end, value in values.items()}
    return scores
