"""What a study found: a table, `trials.csv`, `best_trial.yaml` and a picture of its history."""

import csv
import io
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from src.files import write_text, write_yaml
from src.searches.space import override_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

TABLE_ROWS = 5


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Completed trials, the best one first; of equal ones the earlier."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    return sorted(trials, key=lambda trial: (sign * trial.value, trial.number))


def write_tables(
    study: optuna.Study, directory: Path, metric: str, overrides: Sequence[str]
) -> None:
    """Write `trials.csv`, and `best_trial.yaml` once a trial is completed.

    Args:
        study: with its trials.
        directory: of the study.
        metric: that was optimised.
        overrides: that all trials have in common.
    """
    write_text(directory / "trials.csv", _table(study.get_trials(deepcopy=False), metric))
    best = next(iter(best_trials(study)), None)
    if best is None:
        return
    values = [override_text(key, value) for key, value in best.params.items()]
    content = {
        "trial": best.number,
        metric: best.value,
        "directory": best.user_attrs["directory"],
        "overrides": [*overrides, *values],
        "command": shlex.join(["python", "src/train.py", *overrides, *values]),
    }
    write_yaml(directory / "best_trial.yaml", content)


def _table(trials: Sequence[FrozenTrial], metric: str) -> str:
    keys = sorted({key for trial in trials for key in trial.params})
    columns = ["trial", "state", metric, *keys, "epochs", "seconds", "directory", "error"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(trial, metric) for trial in trials)
    return text.getvalue()


def _row(trial: FrozenTrial, metric: str) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        metric: trial.value,
        **trial.params,
        "epochs": trial.last_step,
        "seconds": trial.duration and round(trial.duration.total_seconds(), 1),
        **trial.user_attrs,
    }


def log_best(study: optuna.Study, directory: Path, metric: str) -> None:
    """Log how many trials there are, and the best ones as a table."""
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    told = [f"{states.count(state)} {state.name.lower()}" for state in TrialState]
    table = Table()
    best = best_trials(study)[:TABLE_ROWS]
    keys = sorted({key for trial in best for key in trial.params})
    for heading in ("trial", metric, *keys):
        table.add_column(heading, justify="right", overflow="fold")
    for trial in best:
        cells = (trial.number, trial.value, *(trial.params.get(key, "") for key in keys))
        table.add_row(*(f"{c:.6g}" if isinstance(c, float) else str(c) for c in cells))
    text = io.StringIO()
    Console(file=text, width=100).print(table)
    log.info("Trials: %s", ", ".join(word for word in told if not word.startswith("0 ")) or "none")
    if best:
        log.info("%s", text.getvalue().rstrip())
    log.info("Study: %s", directory)


def plot_history(study: optuna.Study, metric: str) -> "Figure":
    """Draw the metric of every trial against its number, and the best one so far."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    styles = {TrialState.COMPLETE: ("o", "C0"), TrialState.PRUNED: ("x", "0.6")}
    for state, (marker, colour) in styles.items():
        trials = study.get_trials(deepcopy=False, states=(state,))
        points = [(trial.number, trial.value) for trial in trials if trial.value is not None]
        if points:
            label = state.name.lower()
            axes.scatter(*zip(*points), marker=marker, color=colour, label=label, zorder=2)
    if steps := _best_so_far(study):
        axes.step(*zip(*steps), where="post", color="C1", label="best so far", zorder=1)
    axes.set_xlabel("trial", fontsize=9)
    axes.set_ylabel(metric, fontsize=9)
    axes.set_title(study.study_name, fontsize=11, pad=10)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)
    return figure


def _best_so_far(study: optuna.Study) -> list[tuple[int, float]]:
    """(trial, best value up to it) of completed trials, in their order."""
    better = max if study.direction == StudyDirection.MAXIMIZE else min
    steps: list[tuple[int, float]] = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        value = better(steps[-1][1], trial.value) if steps else trial.value
        steps.append((trial.number, value))
    return steps
