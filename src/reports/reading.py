"""Run directories: where they are, and what is in them. Nothing is written there."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from src import files
from src.errors import UserError
from src.loggers.metrics_csv import FIRST_COLUMNS, read_rows
from src.runs.resolvers import is_run_directory

EPOCHS_TRAINED = "epochs_trained"
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # both make plain values alone


@dataclass(frozen=True)
class StoredRun:
    """What a run left in its directory; what is not there is empty."""

    directory: Path
    config: dict[str, Any]  # resolved; that of the last resume where it was resumed
    summary: dict[str, Any]
    environment: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)  # as typed
    rows: list[dict[str, str]] = field(default_factory=list)  # of metrics.csv
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)  # of best.ckpt, or last.ckpt

    @property
    def status(self) -> str:
        """``finished``, ``failed``, ``interrupted`` or ``pruned``; ``killed`` without a summary."""
        return self.summary.get("status", "killed")

    @property
    def task(self) -> str | None:
        """What was to be done: ``train``, ``search``, ``eval``, ..."""
        return self.summary.get("task") or self.config.get("task_name")

    @property
    def seed(self) -> int | None:
        """Random seed of the run."""
        return self.summary.get("seed", self.config.get("seed"))

    def curve(self, name: str) -> pd.Series:
        """Values of a metric by the number of epochs trained; the last one where there are more.

        Measures of the dynamics carry that number; Lightning counts epochs from zero.
        """
        rows = [row for row in self.rows if name in row]
        trained = [float(row.get(EPOCHS_TRAINED) or float(row["epoch"]) + 1) for row in rows]
        values = pd.Series([float(row[name]) for row in rows], trained, dtype=float)
        return values[~values.index.duplicated(keep="last")]

    def curve_names(self) -> set[str]:
        """Names of all metrics that were logged along training."""
        return {name for row in self.rows for name in row} - {*FIRST_COLUMNS, EPOCHS_TRAINED}


class SweepJob(NamedTuple):
    """A job in ``sweep.json``, with the overrides of the sweep."""

    directory: Path
    status: str
    error: str
    overrides: list[str]
    sweep_overrides: list[str]


@dataclass
class Collection:
    """Runs and jobs of sweeps below some directories, and why others could not be read."""

    runs: list[StoredRun] = field(default_factory=list)
    damaged: dict[Path, str] = field(default_factory=dict)
    jobs: list[SweepJob] = field(default_factory=list)


def read_all(folders: Sequence[Path]) -> Collection:
    """Read the runs and sweeps at and below some directories, each once.

    Raises:
        UserError: when a directory does not exist or nothing was run below any of them.
    """
    found, seen = Collection(), set()
    for folder in folders:
        if not folder.is_dir():
            rule = "Each argument must be a directory of a run or a sweep"
            raise UserError(f"{rule}; got {folder}. Use logs/train/multiruns/<sweep>, for example.")
        for directory in _directories(folder, seen):
            try:
                if (directory / files.SWEEP_FILE).is_file():
                    record = _read(directory / files.SWEEP_FILE)
                    for job in record["jobs"]:
                        words = job.get("overrides", []), record.get("overrides", [])
                        end = job["status"], job.get("error") or ""
                        found.jobs.append(SweepJob(directory / job["directory"], *end, *words))
                if _is_run(directory):
                    found.runs.append(read_run(directory))
            except (ValueError, LookupError, TypeError, OSError, yaml.YAMLError) as error:
                found.damaged[directory] = f"{type(error).__name__}: {error}"
    if not (found.runs or found.damaged or found.jobs):
        raise UserError(
            "There must be a run below one of the directories, with config.yaml or summary.json; "
            f"got {', '.join(map(str, folders))} without any. Use logs/train/runs, for example."
        )
    return found


def read_run(directory: Path) -> StoredRun:
    """Read one run; a damaged file raises an error of Python's own, such as ValueError."""
    resumed = directory / files.RESUMED_CONFIG
    config = resumed if resumed.is_file() else directory / files.RUN_CONFIG
    stored = _read(directory / files.CHECKPOINTS / files.MEASURES_JSON)
    measures = (stored.get(files.BEST) or stored.get(files.LAST) or {"measures": {}})["measures"]
    run = StoredRun(
        directory,
        config=_read(config),
        summary=_read(directory / files.SUMMARY_FILE),
        environment=_read(directory / files.ENVIRONMENT_FILE),
        overrides=[str(entry) for entry in _read(directory / files.OVERRIDES_FILE, list)],
        rows=read_rows(directory / files.METRICS_FILE),
        measures={m: {k: entry[k] for k in ("values", "details")} for m, entry in measures.items()},
    )
    for name in run.curve_names():
        run.curve(name)  # raises for cells that are no numbers
    if run.status == "finished" and run.seed is None:
        raise ValueError("a finished run must have a seed")
    return run


def _is_run(directory: Path) -> bool:
    """Whether a run was started in a directory, even if it ended before it had a config."""
    return is_run_directory(directory) or (directory / files.SUMMARY_FILE).is_file()


def _directories(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Directories of runs and sweeps; nothing below a run, and no run that was replaced."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    if _is_run(folder) or (folder / files.SWEEP_FILE).is_file():
        yield folder
    if not _is_run(folder):
        for entry in sorted(folder.iterdir()):
            hidden = entry.name.startswith(".") or entry.name == files.REPLACED
            if entry.is_dir() and not hidden:
                yield from _directories(entry, seen)


def _read(path: Path, kind: type = dict) -> Any:
    """Content of a JSON or YAML file; empty where there is none."""
    if not path.is_file():
        return kind()
    text = path.read_text(encoding="utf-8")
    content = json.loads(text) if path.suffix == ".json" else yaml.load(text, YAML)
    if not isinstance(content, kind):
        raise ValueError(f"{path.name} must hold a {kind.__name__}; got {type(content).__name__}")
    return content
