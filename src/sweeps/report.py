"""Hydra's callback around a sweep: checks before it, the report after it."""

import logging
import os
import shutil
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from src.files import SWEEP_FILE
from src.runs.resolvers import register_resolvers
from src.sweeps.checks import sweep_problems
from src.sweeps.names import register_sweep_resolvers
from src.sweeps.records import STATUSES, read_records, records_folder

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
DONE = ("finished", "skipped")


class SweepReport(Callback):
    """Refuses bad command lines of sweeps, prepares their workers, and reports their jobs.

    After the last job it writes `sweep.json` into the sweep's folder: every job's directory,
    overrides, status and error. The process ends with status 1 when a job is not finished.

    A worker gets this object first of all, and is made ready by it: the resolvers of configs are
    registered, and GPUs hidden by submitit's local executor are seen again.

    Args:
        started: name of this start of the sweep.
        swept: keys that have several values; the resolver `job_folder` reads them here.
    """

    def __init__(self, started: str, swept: list[str]) -> None:
        self.started = started
        self.swept = list(swept)
        self.visible_devices = os.environ.get("CUDA_VISIBLE_DEVICES")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        register_resolvers()
        register_sweep_resolvers()
        hidden = not os.environ.get("CUDA_VISIBLE_DEVICES", "all")
        if os.environ.get("SUBMITIT_EXECUTOR") == "local" and hidden:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
            if self.visible_devices is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = self.visible_devices

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the process with a message where the command line is bad.

        Raises:
            SystemExit: with the message; Hydra turns other errors of callbacks into warnings.
        """
        if problems := sweep_problems(config):
            sys.exit("\n".join(problems))
        # Workers import this project wherever they are started.
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write `sweep.json`, log how many jobs ended how, and name those that failed.

        Raises:
            SystemExit: when a job is not finished.
        """
        from src.files import write_json

        sweep = Path(config.hydra.sweep.dir)
        folder = records_folder(sweep, self.started)
        jobs = read_records(folder)
        for job in jobs:
            if job["status"] == "running":
                job |= {"status": "failed", "error": "The process of the job was killed."}
        typed = OmegaConf.to_container(config.hydra.overrides.task)
        write_json(sweep / SWEEP_FILE, {"started": self.started, "overrides": typed, "jobs": jobs})
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()  # unless another start of the sweep is under way
        log.info("Sweep: %s. Folder: %s", _counts(jobs), sweep)
        if unfinished := [job for job in jobs if job["status"] not in DONE]:
            sys.exit(_told(unfinished, len(jobs)))


def _counts(jobs: list[dict[str, Any]]) -> str:
    counts = Counter(job["status"] for job in jobs)
    named = ("finished", "skipped", "failed")
    words = [s for s in STATUSES if counts[s] or s in named]
    return ", ".join(f"{counts[status]} {status}" for status in words)


def _told(jobs: list[dict[str, Any]], total: int) -> str:
    lines = [
        f"  job {job['job']}, {' '.join(job['overrides'])}: {job['status']}"
        + (f": {job['error']}" if job["error"] else "")
        for job in jobs
    ]
    head = f"{len(jobs)} of {total} jobs of the sweep are not finished:"
    tail = "The same command again skips what is finished and goes on with the rest."
    return "\n".join([head, *lines, tail])
