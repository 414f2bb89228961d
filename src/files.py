"""Names of the files in a run directory, and files written so that nobody meets half of one."""

import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

# In the directory of a run:
RUN_CONFIG = "config.yaml"  # as the run was started with it
RESUMED_CONFIG = "config_resumed.yaml"  # as the last resume left it
OVERRIDES_FILE = "overrides.yaml"
RESUMES_FILE = "resumes.yaml"
ENVIRONMENT_FILE = "environment.json"
METRICS_FILE = "metrics.csv"
SUMMARY_FILE = "summary.json"
WANDB_FILE = "wandb_run.json"  # id, project, name, ... of the W&B run
WANDB_ROWS = "wandb_rows.jsonl"  # step and metrics of each of its rows
LOCK = ".lock"  # held by the process at work in it
IMAGES = "images"  # folder
CHECKPOINTS = "checkpoints"  # folder, with
BEST, LAST = "best.ckpt", "last.ckpt"
PATH_FOLDER = "path"  # weights kept along training
MEASURES_JSON, MEASURES_CSV = "measures.json", "measures.csv"  # of checkpoints
MEASURES = "measures"  # folder of their pictures
# What a run has written before it trains or measures anything, and of one that was refused then:
WITHOUT_RESULTS = (RUN_CONFIG, OVERRIDES_FILE, ENVIRONMENT_FILE, SUMMARY_FILE)

# In the directory of a sweep:
SWEEP_FILE = "sweep.json"
RECORDS = ".jobs"  # folder, while it is under way
REPLACED = "replaced"  # folder beside it, of runs that were run anew


def check_writable(folder: str | Path) -> None:
    """Raise the system's OSError, naming `folder`, unless it can be made and written to."""
    folder = Path(folder).absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


@contextmanager
def named_in_errors(path: str | Path) -> Iterator[None]:
    """Within it, name `path` in an OSError that names no file, as of one that is open already."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to a temporary file beside `path`, then rename it to `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with named_in_errors(path), temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` in UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity, which JSON lacks, as null."""
    write_text(path, json.dumps(_without_nan(value), indent=2, allow_nan=False) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_yaml(path: str | Path, value: Any) -> None:
    """Write a config, list or dict as YAML, atomically."""
    write_text(path, OmegaConf.to_yaml(OmegaConf.create(value)))
