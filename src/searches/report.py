"""What a study found: `trials.csv`, `best_trial.yaml`, `history.png` and a table in the log."""

import logging
import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path

import optuna
import pandas
from optuna.trial import TrialState

from src.files import write_text, write_yaml
from src.plots.style import save_figure
from src.runs.overrides import override_text

log = logging.getLogger(__name__)

ROWS_LOGGED = 5


def best_trial(study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    """The best completed trial, of equal ones the first; None before one is completed."""
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return study.best_trial if completed else None


def trials_table(study: optuna.Study, metric: str) -> pandas.DataFrame:
    """A row for every trial: number, state, metric, parameters, how long, where, error."""
    attributes = ("number", "state", "value", "params", "last_step", "duration", "user_attrs")
    table = study.trials_dataframe(attributes, multi_index=True)
    keys = [key for attribute, key in table.columns if attribute == "params"]
    names = {"number": "trial", "value": metric, "last_step": "epochs", "duration": "seconds"}
    table.columns = [key or names.get(attribute, attribute) for attribute, key in table.columns]
    columns = ["trial", "state", metric, *keys, "epochs", "seconds", "directory", "error"]
    table = table.reindex(columns=columns)  # also of a study without trials
    table["state"] = table["state"].astype(str).str.lower()
    table["epochs"] = table["epochs"].astype("Int64")
    table["seconds"] = table["seconds"].astype("timedelta64[ns]").dt.total_seconds().round(1)
    return table


def write_tables(
    study: optuna.Study, directory: Path, metric: str, overrides: Sequence[str]
) -> None:
    """Write `trials.csv`, and `best_trial.yaml` once a trial is completed.

    `overrides` are those that all trials have in common.
    """
    write_text(directory / "trials.csv", trials_table(study, metric).to_csv(index=False))
    if best := best_trial(study):
        values = [override_text(key, value) for key, value in best.params.items()]
        content = {
            "trial": best.number,
            metric: best.value,
            "directory": best.user_attrs["directory"],
            "overrides": [*overrides, *values],
            "command": shlex.join(["python", "src/train.py", *overrides, *values]),
        }
        write_yaml(directory / "best_trial.yaml", content)


def report(study: optuna.Study, directory: Path, metric: str) -> None:
    """Log how many trials there are, and the best ones as a table; draw `history.png`."""
    table = trials_table(study, metric)
    counts = table["state"].value_counts(sort=False)
    log.info("Trials: %s", ", ".join(f"{n} {state}" for state, n in counts.items()) or "none")
    log.info("Study: %s", directory)
    completed = table[table["state"] == "complete"].dropna(axis="columns", how="all")
    if completed.empty:
        return
    ascending = study.direction == optuna.study.StudyDirection.MINIMIZE
    best = completed.sort_values(metric, ascending=ascending, kind="stable").head(ROWS_LOGGED)
    log.info("%s", best.to_string(index=False, float_format="{:.6g}".format))

    from matplotlib import pyplot
    from optuna.visualization.matplotlib import plot_optimization_history

    pyplot.switch_backend("agg")  # needs no display
    with pyplot.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axes = plot_optimization_history(study, target_name=metric)
        axes.set_title(study.study_name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        save_figure(axes.figure, directory / "history.png")
        pyplot.close(axes.figure)
