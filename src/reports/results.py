"""The tables of a report."""

from collections.abc import Sequence
from itertools import combinations

from src.errors import UserError
from src.reports import tables
from src.reports.grouping import Group
from src.reports.metrics import Metrics, families, final_metrics
from src.reports.settings import NOT_SET, as_text
from src.reports.statistics import Comparison, compare, estimate, holm
from src.reports.tables import MISSING, Table
from src.runs.console import duration

MOST_ROWS_IN_PAIRS = 8
TITLES = {
    "results": "Test metrics are of the best checkpoint on validation where one was kept, and "
    "validation metrics of its epoch",
    "dynamics": "Measures of the training dynamics after the last epoch",
    "measures": "Measures of the checkpoint that src/measure.py was given",
}

ByGroup = dict[str, dict[int, Metrics]]  # by label and by seed


def collect(groups: Sequence[Group]) -> ByGroup:
    """Final metrics of finished runs."""
    return {
        group.label: {seed: final_metrics(run) for seed, run in group.finished.items()}
        for group in groups
    }


def overview(groups: Sequence[Group], metrics: ByGroup, names: Sequence[str]) -> Table:
    """One line per row of runs, one column per metric."""
    lines = []
    for group in groups:
        found = [estimate(_of(metrics[group.label], name).values()) for name in names]
        seeds = ", ".join(map(str, group.finished)) or MISSING
        cells = [tables.mean_and_deviation(entry) for entry in found]
        lines.append((group.label, _parameters(group), seeds, *cells))
    caption = "Mean ± sample standard deviation over seeds"
    columns = ("runs", "parameters", "seeds", *names)
    return Table("overview", caption, columns, tuple(lines))


def complete(groups: Sequence[Group], metrics: ByGroup, names: Sequence[str]) -> list[Table]:
    """Every metric of every row of runs with its interval: one table per family of metrics."""
    columns = ("metric", "runs", "n", "mean", "standard deviation", "95 % interval of the mean")
    return [
        Table(
            family,
            TITLES[family],
            columns,
            tuple(
                (name, group.label, *_cells(_of(metrics[group.label], name)))
                for name in members
                for group in groups
            ),
            text_columns=2,
        )
        for family, members in families(names).items()
    ]


def pairs(groups: Sequence[Group], baseline: str | None) -> list[tuple[str, str]]:
    """Labels of rows that are compared: all pairs, or every other row with the baseline.

    Without a baseline there are none among more than 8 rows.

    Raises:
        UserError: when the baseline is not a row.
    """
    labels = [group.label for group in groups]
    if baseline is None:
        few = len(labels) <= MOST_ROWS_IN_PAIRS
        return [(second, first) for first, second in combinations(labels, 2)] if few else []
    if baseline not in labels:
        listed = "; ".join(repr(label) for label in labels)
        raise UserError(f"`--baseline` must be a row; got {baseline!r}. Use one of: {listed}.")
    return [(label, baseline) for label in labels if label != baseline]


def paired(
    metrics: ByGroup, compared: Sequence[tuple[str, str]], names: Sequence[str]
) -> list[Table]:
    """Paired differences, one table per family of metrics; none where no two rows share seeds."""
    columns = ("metric", "difference", "n", "mean", "95 % interval of the mean", "p")
    columns += ("p, Holm", "seeds left out")
    found = []
    for family, members in families(names).items():
        lines = [line for name in members for line in _paired_lines(metrics, compared, name)]
        if lines:
            title = f"Differences of equal seeds: {family}"
            found.append(Table(f"paired_{family}", title, columns, tuple(lines), text_columns=2))
    return found


def each_run(groups: Sequence[Group], metrics: ByGroup) -> Table:
    """Every metric of every finished run, with all digits, to compute with."""
    names = sorted({n for runs in metrics.values() for values in runs.values() for n in values})
    lines = [
        (group.label, str(seed), str(run.directory), *(_digits(values.get(n)) for n in names))
        for group in groups
        for (seed, run), values in zip(group.finished.items(), metrics[group.label].values())
    ]
    columns = ("runs", "seed", "directory", *names)
    return Table("runs", "Every metric of every finished run", columns, tuple(lines), 3)


def configs(groups: Sequence[Group]) -> Table | None:
    """Keys whose values differ between rows; None for one row."""
    keys = dict.fromkeys(key for group in groups for key in group.settings)
    if not keys:
        return None
    lines = [
        (key, *(as_text(group.settings.get(key, NOT_SET)) for group in groups)) for key in keys
    ]
    columns = ("key", *(group.label for group in groups))
    return Table("configs", "Keys of the configs that differ", columns, tuple(lines), len(columns))


def counts(groups: Sequence[Group]) -> Table:
    """How many runs of each row ended how, and how long they took."""
    lines = []
    for group in groups:
        others = [run for run in group.runs if run.status != "finished"]
        told = ", ".join(f"{run.status}, seed {run.seed}" for run in others) or MISSING
        times = [run.summary.get("wall_time_s") for run in group.finished.values()]
        mean = estimate(times).mean
        time = MISSING if mean is None else duration(mean)
        lines.append((group.label, str(len(group.finished)), told, time))
    columns = ("runs", "finished", "not finished", "mean time of a run")
    return Table("counts", "Runs by their end", columns, tuple(lines))


def _of(runs: dict[int, Metrics], name: str) -> Metrics:
    """Values of a metric by seed, of the runs that have it."""
    return {seed: values[name] for seed, values in runs.items() if name in values}


def _cells(values: Metrics) -> tuple[str, ...]:
    found = estimate(values.values())
    step = found.deviation
    numbers = (tables.number(found.mean, step), tables.number(found.deviation, step))
    return (tables.sample_size(found), *numbers, tables.interval(found))


def _paired_lines(
    metrics: ByGroup, compared: Sequence[tuple[str, str]], name: str
) -> list[tuple[str, ...]]:
    found: list[tuple[str, Comparison]] = []
    for first, second in compared:
        comparison = compare(_of(metrics[first], name), _of(metrics[second], name))
        if comparison.seeds:
            found.append((f"{first} − {second}", comparison))
    adjusted = holm([comparison.p_value for _, comparison in found])
    return [
        (
            name,
            label,
            str(comparison.difference.n),
            tables.number(comparison.difference.mean, comparison.difference.deviation),
            tables.interval(comparison.difference),
            tables.p_value(comparison.p_value),
            tables.p_value(p),
            ", ".join(map(str, comparison.left_out)) or MISSING,
        )
        for (label, comparison), p in zip(found, adjusted)
    ]


def _parameters(group: Group) -> str:
    counted = {run.summary.get("num_parameters") for run in group.finished.values()} - {None}
    return ", ".join(f"{count:,}" for count in sorted(counted)) or MISSING


def _digits(value: float | None) -> str:
    return MISSING if value is None else repr(value)
