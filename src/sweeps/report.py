"""What became of each job of a sweep: a record per job, and a report when all are over.

Records are files, because jobs may run on other machines.
"""

import json
import logging
import os
import shlex
import shutil
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from src.files import RECORDS, SWEEP_FILE, write_json
from src.runs.resolvers import register_resolvers
from src.sweeps.checks import sweep_problems
from src.sweeps.names import register_sweep_resolvers

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
# A record is first "running": the word stays when the process of the job is killed.
STATUSES = ("finished", "skipped", "failed", "interrupted", "running elsewhere", "not started")
STATUSES += ("running",)


@dataclass(frozen=True)
class Job:
    """One job of a sweep, as one start of the sweep takes it up."""

    number: int
    directory: Path  # of the run
    records: Path  # folder of all records of this start
    overrides: tuple[str, ...]  # as typed

    @classmethod
    def current(cls, config: DictConfig) -> "Job":
        """The job that this process is in."""
        hydra = HydraConfig.get()
        return cls(
            number=int(hydra.job.num),
            directory=Path(config.paths.output_dir),
            records=Path(hydra.sweep.dir) / RECORDS / hydra.callbacks.report.started,
            overrides=tuple(hydra.overrides.task),
        )

    def record(self, status: str, error: str | None = None) -> None:
        """Write what became of the job, one of `STATUSES`."""
        entry = {
            "job": self.number,
            "directory": self.directory.name,
            "overrides": list(self.overrides),
            "status": status,
            "error": error,
        }
        write_json(self.records / f"{self.number}.json", entry)


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Records of one start of a sweep, by the number of the job."""
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sorted(entries, key=lambda entry: entry["job"])


class SweepReport(Callback):
    """Hydra's callback around a sweep: checks before it, the report after it.

    After the last job it writes `sweep.json` into the sweep's folder: every job's directory,
    overrides, status and error. The process ends with status 1 when a job is not finished.

    A worker unpickles this object first of all, and is made ready by it: the resolvers of configs
    are registered, and GPUs hidden by submitit's local executor are seen again.

    `started` is the name of this start of the sweep, `swept` the keys that have several values.
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
        """Exit with a message where the command line is bad: Hydra hides errors of callbacks."""
        if problems := sweep_problems(config):
            sys.exit("\n".join(problems))
        # Workers import this project wherever they are started.
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write `sweep.json`, log how many jobs ended how; exit naming those not finished."""
        sweep = Path(config.hydra.sweep.dir)
        records = sweep / RECORDS / self.started
        jobs = read_records(records)
        for job in jobs:
            if job["status"] == "running":
                job |= {"status": "failed", "error": "The process of the job was killed."}
        typed = OmegaConf.to_container(config.hydra.overrides.task)
        write_json(sweep / SWEEP_FILE, {"started": self.started, "overrides": typed, "jobs": jobs})
        shutil.rmtree(records, ignore_errors=True)
        with suppress(OSError):
            records.parent.rmdir()  # unless another start of the sweep is under way
        counts = Counter({"finished": 0, "skipped": 0, "failed": 0})
        counts.update(job["status"] for job in jobs)
        words = [f"{counts[status]} {status}" for status in STATUSES if status in counts]
        log.info("Sweep: %s. Folder: %s", ", ".join(words), sweep)
        if counts["finished"] + counts["skipped"]:
            log.info("Report: %s", shlex.join(["python", "src/report.py", str(sweep)]))
        lines = [
            f"  job {job['job']}, {' '.join(job['overrides'])}: {job['status']}"
            + (f": {job['error']}" if job["error"] else "")
            for job in jobs
            if job["status"] not in ("finished", "skipped")
        ]
        if lines:
            head = f"{len(lines)} of {len(jobs)} jobs of the sweep are not finished:"
            tail = "The same command again skips what is finished and goes on with the rest."
            sys.exit("\n".join([head, *lines, tail]))
