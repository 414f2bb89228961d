"""Jobs of a sweep: skip what is finished, continue what is not, survive what fails.

The folder of a sweep follows from its command and that of a job from its config
(`src/sweeps/names.py`), so that a job knows by its directory what was done before, under any
launcher, and where a cluster starts it again.
"""

import logging
import math
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig

from src.errors import user_error
from src.files import LOCK, REPLACED, SUMMARY_FILE, write_json
from src.runs.overrides import in_sweep
from src.runs.results import optimized_value
from src.runs.resume import RunTaken, taken
from src.runs.run import Run, reported_errors
from src.sweeps.devices import (
    check_one_device,
    release_memory,
    share_cores,
    spread,
    start_workers_as_usual,
)
from src.sweeps.records import Job, read_records

log = logging.getLogger(__name__)

Train = Callable[[DictConfig], float | None]


def run_job(config: DictConfig, train: Train) -> float | None:
    """Train; in a sweep only what is not finished yet, and without ending the sweep's other jobs.

    Returns:
        What `train` returned, or would have; NaN for a sweeper that asks for a value which a
        failed job does not have.
    """
    if not in_sweep():
        return train(config)
    job = Job.current(config)
    value = error = None
    if config.sweep.fail_fast and any(
        record["status"] == "failed" for record in read_records(job.records)
    ):
        status = "not started"
    else:
        job.record("running")
        try:
            with taken(job.directory):
                status, value = _take_up(job, config, train)
        except RunTaken:
            status = "running elsewhere"
            log.warning("This job is being run by another process; it is left to that one.")
        except (KeyboardInterrupt, SystemExit):
            job.record("interrupted")
            raise
        except Exception as raised:  # noqa: BLE001 -- `reported_errors` has logged it
            status = "failed"
            error = str(user_error(raised) or f"{type(raised).__name__}: {raised}")
            summary = job.summary()
            if summary.get("status") != "finished":  # a run that had not begun wrote none
                summary |= {"status": "failed", "error": error}
                write_json(job.directory / SUMMARY_FILE, summary)
        release_memory()
    job.record(status, error)
    return math.nan if value is None and config.optimized_metric is not None else value


def _take_up(job: Job, config: DictConfig, train: Train) -> tuple[str, float | None]:
    """Status and value of a job that this process alone runs."""
    with reported_errors():
        check_one_device(config)
        summary = job.summary()
        if config.sweep.rerun:
            _set_aside(job.directory)
        elif summary.get("status") == "finished":
            log.info("Skipped: finished already, in %s", job.directory)
            return "skipped", optimized_value(Run(config, job.directory, summary=summary))
    share_cores()
    start_workers_as_usual()
    spread(config, job.number)
    value = train(config)
    return job.summary().get("status", "finished"), value


def _set_aside(directory: Path) -> None:
    """Move a run to `replaced` beside the sweep's folder, but for its log and its lock."""
    kept = {LOCK, *(path.name for path in directory.glob("*.log"))}
    entries = [path for path in directory.iterdir() if path.name not in kept]
    if entries:
        now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
        sweep = directory.parent
        place = sweep.parents[1] / REPLACED / sweep.name / f"{directory.name}_{now}"
        place.mkdir(parents=True)
        for path in entries:
            shutil.move(path, place / path.name)
        log.info("The job is run anew; what it had written is in %s", place)
