"""Run directories: where they are, and what is in them. Nothing is written there."""

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from src.errors import UserError
from src.files import (
    CHECKPOINTS,
    ENVIRONMENT_FILE,
    METRICS_FILE,
    OVERRIDES_FILE,
    REPLACED,
    RESUMED_CONFIG,
    RUN_CONFIG,
    SUMMARY_FILE,
    SWEEP_FILE,
)
from src.loggers.metrics_csv import FIRST_COLUMNS, read_rows
from src.runs.measure_store import MeasureStore
from src.runs.resolvers import is_run_directory

EPOCHS_TRAINED = "epochs_trained"
TRAININGS = ("train", "search")
KILLED = "killed"  # or still under way: without a summary, nothing tells these apart

Curve = dict[float, float]


@dataclass(frozen=True)
class StoredRun:
    """What a run left in its directory.

    Attributes:
        directory: of the run.
        config: resolved; that of the last resume where it was resumed. Empty if the run ended
            before it had one.
        summary: ``summary.json``, empty where there is none.
        environment: ``environment.json``, empty where there is none.
        overrides: as typed.
        rows: of ``metrics.csv``, without empty cells.
        measures: ``checkpoints/measures.json``, by checkpoint.
    """

    directory: Path
    config: dict[str, Any]
    summary: dict[str, Any]
    environment: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    measures: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """``finished``, ``failed``, ``interrupted``, ``pruned`` or ``killed``."""
        return self.summary.get("status", KILLED)

    @property
    def task(self) -> str | None:
        """Which entry point made it: ``train``, ``eval``, ..."""
        return self.summary.get("task") or self.config.get("task_name")

    @property
    def is_training(self) -> bool:
        """Whether a network was trained, or was to be."""
        return self.task in (*TRAININGS, None)

    @property
    def seed(self) -> int | None:
        """The random seed."""
        return self.summary.get("seed", self.config.get("seed"))

    @property
    def network(self) -> str:
        """Class of the network."""
        return self.config["model"]["net"]["_target_"].rpartition(".")[2]

    def curve(self, name: str) -> Curve:
        """Values of a metric by the number of epochs trained; the last one where there are more.

        Measures of the dynamics carry that number; Lightning counts epochs from zero.
        """
        values = {}
        for row in self.rows:
            if name in row:
                trained = row.get(EPOCHS_TRAINED) or float(row["epoch"]) + 1
                values[float(trained)] = float(row[name])
        return values

    def curve_names(self) -> set[str]:
        """Names of all metrics that were logged along training."""
        logged = {name for row in self.rows for name in row}
        return logged - {*FIRST_COLUMNS, EPOCHS_TRAINED}


@dataclass(frozen=True)
class Damaged:
    """A directory that could not be read, and why."""

    directory: Path
    reason: str


@dataclass
class Collection:
    """Everything found below some directories.

    Attributes:
        runs: those that could be read, in the order of their paths.
        damaged: those that could not.
        sweeps: ``sweep.json`` by the directory of the sweep.
    """

    runs: list[StoredRun] = field(default_factory=list)
    damaged: list[Damaged] = field(default_factory=list)
    sweeps: dict[Path, dict[str, Any]] = field(default_factory=dict)


def read_all(folders: Iterable[Path]) -> Collection:
    """Runs and sweeps at and below some directories, each once.

    Raises:
        UserError: when a directory does not exist or nothing was run below any of them.
    """
    found, folders = Collection(), list(folders)
    seen: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise UserError(
                f"Each argument must be a directory of a run or a sweep; got {folder}, which is "
                "none. Use logs/train/multiruns/<sweep>, for example."
            )
        for directory in _directories(folder, seen):
            _read_into(found, directory)
    if not (found.runs or found.damaged or found.sweeps):
        raise UserError(
            "There must be a run below one of the directories, told by its config.yaml or "
            f"summary.json; got {', '.join(map(str, folders))} without any. Runs are put into "
            "logs/train/runs and logs/train/multiruns."
        )
    return found


def read_run(directory: Path) -> StoredRun:
    """One run.

    Raises:
        ValueError: when a file is damaged.
        OSError: when one cannot be read.
    """
    resumed = directory / RESUMED_CONFIG
    run = StoredRun(
        directory=directory,
        config=_mapping(resumed if resumed.is_file() else directory / RUN_CONFIG),
        summary=_mapping(directory / SUMMARY_FILE),
        environment=_mapping(directory / ENVIRONMENT_FILE),
        overrides=_overrides(directory / OVERRIDES_FILE),
        rows=read_rows(directory / METRICS_FILE),
        measures=_measures(directory / CHECKPOINTS),
    )
    for name in run.curve_names():
        run.curve(name)  # a damaged table is noticed here
    if run.status == "finished" and run.seed is None:
        raise ValueError("a finished run must have a seed")
    return run


def is_finite(value: Any) -> bool:
    """Whether a metric is a number; summaries hold null in place of NaN and infinity."""
    return isinstance(value, int | float) and math.isfinite(value)


def _directories(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Directories of runs and sweeps; nothing below a run, and no run that was replaced."""
    real = folder.resolve()
    if real in seen:
        return
    seen.add(real)
    is_run = is_run_directory(folder) or (folder / SUMMARY_FILE).is_file()
    if is_run or (folder / SWEEP_FILE).is_file():
        yield folder
    if is_run:
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        hidden = entry.name.startswith(".") or entry.name == REPLACED
        if entry.is_dir() and not hidden:
            yield from _directories(Path(entry.path), seen)


def _read_into(found: Collection, directory: Path) -> None:
    try:
        if (directory / SWEEP_FILE).is_file():
            found.sweeps[directory] = _sweep(directory / SWEEP_FILE)
        if is_run_directory(directory) or (directory / SUMMARY_FILE).is_file():
            found.runs.append(read_run(directory))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, yaml.YAMLError) as error:
        found.damaged.append(Damaged(directory, f"{type(error).__name__}: {error}"))


def _mapping(path: Path) -> dict[str, Any]:
    """Content of a JSON or YAML file; empty where there is none."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must hold a mapping, and holds {type(content).__name__}")
    return content


def _sweep(path: Path) -> dict[str, Any]:
    content = _mapping(path)
    for job in content["jobs"]:
        if not {"directory", "status"} <= set(job):
            raise ValueError(f"each job in {path.name} must have a directory and a status")
    return content


def _measures(folder: Path) -> dict[str, Any]:
    content = MeasureStore(folder).read()
    for checkpoint in content.values():
        for name, entry in checkpoint["measures"].items():
            if not {"values", "details"} <= set(entry):
                raise ValueError(f"the measure {name} must have values and details")
    return content


def _overrides(path: Path) -> list[str]:
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else []
    return [str(entry) for entry in content or []]
