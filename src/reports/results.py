"""The tables of a report."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from src.errors import UserError
from src.measures.forecast import TRAINED_STEPS
from src.reports.baselines import ERRORS, TOLERANCE, baseline_rows
from src.reports.grouping import Group, differing_keys
from src.reports.metrics import compared, families, final_metrics
from src.reports.naming import NOT_SET, as_text, file_stem
from src.reports.statistics import Estimate, estimate, estimates
from src.reports.swept import Line, is_of_data, lines_against, pairs, variant
from src.reports.tables import MISSING, Table, interval, mean_and_deviation, number
from src.reports.unfinished import repetition

INTERVAL = "95 % interval of the mean"
CAPTIONS = {
    "results": "Test metrics are of the best checkpoint on validation where one was kept, and "
    "validation metrics of its epoch",
    "dynamics": "Measures of the training dynamics: start/* before the first step, dynamics/* "
    "after the last epoch",
    "measures": "Measures of the checkpoint that src/measure.py was given",
}


class Results:
    """Final metrics of the finished runs of all rows.

    Attributes:
        groups: rows of runs.
        baselines: rows of the forecasts that know nothing; none where nothing is forecast.
        rows: both.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups, self.baselines = groups, baseline_rows(groups)
        self.rows = [*groups, *self.baselines]
        by_seed: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
        for group in self.rows:
            for seed, run in group.finished.items():
                for name, value in final_metrics(run).items():
                    by_seed[name, group.label][seed] = value
        self._samples = {key: pd.Series(v, dtype=float) for key, v in by_seed.items()}
        self._estimates: dict[tuple[str, str], Estimate] = {}
        if self._samples:
            found = estimates(pd.concat(self._samples).droplevel(-1))
            self._estimates = dict(zip(found.index, found.itertuples(index=False)))

    @property
    def names(self) -> set[str]:
        """Metrics that any run has."""
        return {name for name, _ in self._samples}

    def sample(self, name: str, label: str) -> pd.Series:
        """Values of a metric of a row by seed, of the runs that have it."""
        return self._samples.get((name, label), pd.Series(dtype=float))

    def estimate(self, name: str, label: str) -> Estimate:
        """Mean of a metric of a row over seeds."""
        return self._estimates.get((name, label), Estimate())

    def lines(self, key: str) -> list[Line]:
        """Rows against a swept key; baselines are the same at all values of one not of the data."""
        lines = lines_against(self.groups, key)
        if is_of_data(key):
            return [*lines, *lines_against(self.baselines, key)]
        numbers = sorted({number for line in lines for number in line.rows})
        everywhere = [(row, dict.fromkeys(numbers, row)) for row in self.baselines]
        return [*lines, *(Line(row.label, row.network, variant(row), n) for row, n in everywhere)]


def overview(results: Results, names: Sequence[str]) -> Table:
    """One line per row of runs, one column per metric."""
    lines = []
    for group in results.rows:
        cells = [mean_and_deviation(results.estimate(name, group.label)) for name in names]
        sizes = [
            _listed(f"{size:,}" for size in sorted(set(_reached(group, key))))
            for key in ("num_parameters", "num_macs")
        ]
        times = _reached(group, "step_time_s")
        seconds = number(median(times)) if times else MISSING
        seeds = _listed(seed for seed in group.finished if seed is not None)
        lines.append([group.label, *sizes, seconds, seeds, *cells])
    caption = (
        "Mean ± sample standard deviation over seeds; MACs: multiply-accumulates of an image, or "
        "of a frame that is forecast; s/step: median over seeds of the epochs' median"
    )
    columns = ["runs", "parameters", "MACs", "s/step", "seeds", *names]
    return Table("overview", caption, columns, lines)


def complete(results: Results, names: Sequence[str]) -> list[Table]:
    """Every metric of every row of runs with its interval: one table per family of metrics."""
    columns = ["metric", "runs", "n", "mean", "standard deviation", INTERVAL]
    found = []
    for family, members in families(names).items():
        lines = []
        for name, group in product(members, results.rows):
            entry = results.estimate(name, group.label)
            size = f"{entry.n} ({entry.not_finite} not finite)" if entry.not_finite else entry.n
            if group in results.baselines:
                if not entry.n:
                    continue
                size = MISSING  # the data alone decide, no seed
            numbers = [number(x, entry.deviation) for x in (entry.mean, entry.deviation)]
            known = interval(entry) if compared([name]) else MISSING
            lines.append([name, group.label, str(size), *numbers, known])
        found.append(Table(family, CAPTIONS[family], columns, lines, text_columns=2))
    return found


def against(results: Results, key: str, short: str, names: Sequence[str]) -> Table:
    """Metrics by the value of a swept key: one column per value, one row of runs per cell."""
    lines = results.lines(key)
    values = sorted({value for line in lines for value in line.rows})
    rows = []
    for name, line in product(names, lines):
        row = line.rows
        found = [results.estimate(name, row[v].label) if v in row else None for v in values]
        if any(f and f.n + f.not_finite for f in found):
            cells = [mean_and_deviation(f) if f else MISSING for f in found]
            rows.append([name, line.label, *cells])
    columns = ["metric", "runs", *(f"{short}={as_text(value)}" for value in values)]
    caption = f"Mean ± sample standard deviation over seeds, by {key}"
    return Table(file_stem(f"by_{short}"), caption, columns, rows, text_columns=2)


def per_step(results: Results, names: Sequence[str]) -> Table:
    """Skill of forecasts at the first step ahead, the last that was trained, and the last.

    Args:
        names: metrics of single steps, such as ``test/skill/01``, at least one.
    """
    sets: dict[str, list[str]] = defaultdict(list)
    for name in names:
        sets[name.rpartition("/")[0]].append(name)
    columns = []
    for name, members in sets.items():
        shown = (members[0], f"{name}/{TRAINED_STEPS:02d}", members[-1])
        columns += [member for member in members if member in shown]
    lines = [
        [row.label, *(mean_and_deviation(results.estimate(name, row.label)) for name in columns)]
        for row in results.rows
    ]
    caption = (
        "Skill at the first step ahead, at the last that is trained as published, and at the last: "
        "mean ± sample standard deviation over seeds"
    )
    return Table("skill", caption, ["runs", *columns], lines)


def paired(results: Results, baseline: Group | None, names: Sequence[str]) -> list[Table]:
    """Differences of equal seeds between rows that one choice tells apart, one table per family.

    Pairing by the seed takes out what both have in common, e.g. the order of the data. `baseline`
    is the row that is subtracted; None: see `swept.pairs`. Forecasts of different test data, such
    as those of two levels, are not subtracted.
    """
    columns = ["metric", "difference", "n", "mean", INTERVAL, "seeds left out"]
    rows = [pair for pair in pairs(results.groups, baseline) if _same_test(results, *pair)]
    found = []
    for family, members in families(compared(names)).items():
        lines = []
        for name, (group, other) in product(members, rows):
            differences = results.sample(name, group.label) - results.sample(name, other.label)
            entry = estimate(differences)
            if entry.n:
                left_out = _listed(differences.index[~np.isfinite(differences)])
                mean = number(entry.mean, entry.deviation)
                cells = [str(entry.n), mean, interval(entry), left_out]
                lines.append([name, f"{group.label} − {other.label}", *cells])
        if lines:
            caption = f"Differences of equal seeds: {family}"
            found.append(Table(f"paired_{family}", caption, columns, lines, text_columns=2))
    return found


def find_row(groups: Sequence[Group], label: str | None) -> Group | None:
    """The row of a label, or None.

    Raises:
        UserError: when there is no such row.
    """
    found = {group.label: group for group in groups}
    if label is not None and label not in found:
        listed = "; ".join(map(repr, found))
        raise UserError(f"`--baseline` must be a row; got {label!r}. Use one of: {listed}.")
    return found.get(label)


def each_run(results: Results) -> Table:
    """Every metric of every finished run, with all digits, to compute with."""
    names = sorted(results.names)
    lines = []
    for group in results.groups:
        for seed, run in group.finished.items():
            values = pd.Series(final_metrics(run)).reindex(names)
            digits = [MISSING if pd.isna(value) else repr(float(value)) for value in values]
            lines.append([group.label, str(seed), str(run.directory), repetition(run), *digits])
    columns = ["runs", "seed", "directory", "command", *names]
    return Table("runs", "Every metric of every finished run", columns, lines, text_columns=4)


def configs(groups: Sequence[Group]) -> Table:
    """Keys whose values differ between rows, one column each."""
    keys = differing_keys(groups)
    lines = [[g.label, *(as_text(g.config.get(key, NOT_SET)) for key in keys)] for g in groups]
    return Table("configs", "All keys that differ", ["runs", *keys], lines, len(keys) + 1)


def _same_test(results: Results, one: Group, other: Group) -> bool:
    """Whether no baseline says that two rows were tested on different data."""
    both = [
        [results.estimate(f"test/{e}", row.label).mean for row in (one, other)]
        for e in ERRORS.values()
    ]
    return not any(abs(a - b) > TOLERANCE * abs(a) for a, b in both)


def _reached(group: Group, key: str) -> list[Any]:
    """Values in the summaries of a row's finished runs, of those that have one."""
    found = [run.summary.get(key) for run in group.finished.values()]
    return [value for value in found if value is not None]


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values)) or MISSING
