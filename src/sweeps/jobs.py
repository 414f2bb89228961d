"""Jobs of a sweep: skip what is finished, continue what is not, survive what fails.

The folder of a sweep follows from its command and that of a job from its config
(`src/sweeps/names.py`), so that a job knows by its directory what was done before, under any
launcher, and where a cluster starts it again.
"""

import json
import logging
import math
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from src.errors import UserError, user_error
from src.files import LOCK, REPLACED, SUMMARY_FILE, write_json
from src.runs.overrides import in_sweep
from src.runs.results import optimized_value
from src.runs.resume import RunTaken, taken
from src.runs.run import Run, errors_told
from src.sweeps.devices import (
    check_one_device,
    lock_folder,
    own_device,
    release_memory,
    share_cores,
)
from src.sweeps.records import Job, sweeps_every_combination

log = logging.getLogger(__name__)


Train = Callable[[DictConfig], float | None]


def run_job(config: DictConfig, train: Train) -> float | None:
    """Train; in a sweep only what is not finished yet, and without ending the sweep's other jobs.

    Args:
        config: that Hydra composed.
        train: trains under a config, or continues the run in its directory.

    Returns:
        What `train` returned, or would have; NaN for a sweeper that asks for a value which a
        failed job does not have.
    """
    if not in_sweep():
        return train(config)
    job = Job.current(config)
    try:
        return _run_recorded(job, config, train)
    finally:
        release_memory()


def _run_recorded(job: Job, config: DictConfig, train: Train) -> float | None:
    value, error = None, None
    if job.is_stopped:
        status = "not started"
    else:
        job.record("running")
        try:
            with taken(job.directory):
                status, value = _take_up(job, config, train)
        except RunTaken:
            status = "running elsewhere"
            log.warning("This job is being run by another process; it is left to that one.")
        except Exception as raised:  # noqa: BLE001 -- `errors_told` has logged it
            status, error = "failed", _told(raised)
            _note_failure(job, error)
            if config.sweep.fail_fast:
                job.stop_further_jobs()
    job.record(status, error)
    if value is None and config.optimized_metric is not None:
        return math.nan
    return value


def _take_up(job: Job, config: DictConfig, train: Train) -> tuple[str, float | None]:
    """Status and value of a job that this process alone runs."""
    with errors_told():
        _check_unlike_others(job)
        check_one_device(config, torch.cuda.device_count())
        summary = read_summary(job.directory)
        if config.sweep.rerun is True:
            set_aside(job.directory)
        elif summary.get("status") == "finished":
            log.info("Skipped: finished already, in %s", job.directory)
            return "skipped", optimized_value(Run(config, job.directory, summary=summary))
    share_cores()
    with own_device(config, torch.cuda.device_count(), lock_folder()):
        return "finished", train(config)


def _check_unlike_others(job: Job) -> None:
    if not sweeps_every_combination():
        return
    other = job.earlier_with_same_config()
    if other is not None:
        raise UserError(
            f"Jobs of a sweep must differ in their configs; got jobs {other} and {job.number} "
            f"({' '.join(job.overrides)}) with the same one. Leave one of them out."
        )


def read_summary(directory: Path) -> dict[str, Any]:
    """The summary of the run in a directory, empty where there is none."""
    path = directory / SUMMARY_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def set_aside(directory: Path) -> None:
    """Move a run to `replaced` beside the sweep's folder, but for its log and its lock."""
    kept = {LOCK, *(path.name for path in directory.glob("*.log"))}
    entries = [path for path in directory.iterdir() if path.name not in kept]
    if not entries:
        return
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    sweep = directory.parent
    place = sweep.parents[1] / REPLACED / sweep.name / f"{directory.name}_{now}"
    place.mkdir(parents=True)
    for path in entries:
        shutil.move(path, place / path.name)
    log.info("The job is run anew; what it had written is in %s", place)


def _told(error: Exception) -> str:
    return str(user_error(error) or f"{type(error).__name__}: {error}")


def _note_failure(job: Job, error: str) -> None:
    """Let the summary tell of the failure also where the run had not begun."""
    summary = read_summary(job.directory)
    if summary.get("status") != "finished":
        write_json(job.directory / SUMMARY_FILE, {**summary, "status": "failed", "error": error})
