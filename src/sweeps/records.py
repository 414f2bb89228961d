"""What became of each job of a sweep: a record per job, and `sweep.json` when all are over.

Records are files, because jobs may run on other machines.
"""

import json
import logging
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from src.files import LOCK, RECORDS, SUMMARY_FILE, SWEEP_FILE, write_json
from src.locks import is_held

log = logging.getLogger(__name__)

# A record is first "running": the word stays when the process of the job is killed.
STATUSES = ("finished", "skipped", "failed", "interrupted", "running elsewhere", "not started")
STATUSES += ("running",)
KILLED = "The process of the job was killed."


class LostJobError(Exception):
    """A job ended without saying how; the message has what its launcher knows."""


def records_folder(hydra: DictConfig) -> Path:
    """Folder of the records of this start of a sweep."""
    return Path(hydra.sweep.dir) / RECORDS / hydra.callbacks.report.started


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
        directory, typed = Path(config.paths.output_dir), tuple(hydra.overrides.task)
        return cls(int(hydra.job.num), directory, records_folder(hydra), typed)

    @property
    def file(self) -> Path:
        """The job's own record."""
        return self.records / f"{self.directory.name}.json"

    def entry(self, status: str, error: str | None = None) -> dict[str, Any]:
        """What is known of the job, with one of `STATUSES`."""
        return {
            "job": self.number,
            "directory": self.directory.name,
            "overrides": list(self.overrides),
            "status": status,
            "error": error,
        }

    def record(self, status: str, error: str | None = None) -> None:
        """Write what became of the job."""
        write_json(self.file, self.entry(status, error))

    def recorded(self) -> dict[str, Any]:
        """What the job wrote last; an entry of one that is not started if it wrote nothing."""
        return _read(self.file) if self.file.is_file() else self.entry("not started")

    def summary(self) -> dict[str, Any]:
        """The summary of the run in the job's directory; empty where there is none."""
        path = self.directory / SUMMARY_FILE
        return _read(path) if path.is_file() else {}


def record_plan(jobs: Sequence[Job], skipped: Iterable[Job]) -> None:
    """Write, in one file, which jobs this start of a sweep has, before any of them begins."""
    skipped = set(skipped)
    plan = [job.entry("skipped" if job in skipped else "not started") for job in jobs]
    write_json(jobs[0].records / f"{jobs[0].number}.plan", plan)


def read_records(folder: Path) -> list[dict[str, Any]]:
    """What is known of each job of one start of a sweep, by number.

    The plan has the numbers; what a job wrote itself has its status.
    """
    planned = [entry for path in folder.glob("*.plan") for entry in _read(path)]
    found = {entry["directory"]: entry for entry in planned}
    for entry in map(_read, folder.glob("*.json")):
        number = found.get(entry["directory"], entry)["job"]
        found[entry["directory"]] = entry | {"job": number}
    return sorted(found.values(), key=lambda entry: entry["job"])


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_report(config: DictConfig) -> str | None:
    """Write `sweep.json`, log how many jobs ended how; a message if some are not finished."""
    sweep, records = Path(config.hydra.sweep.dir), records_folder(config.hydra)
    jobs = read_records(records)
    for job in jobs:
        if job["status"] == "running" and not is_held(sweep / job["directory"] / LOCK, 0):
            job |= {"status": "failed", "error": KILLED}
    typed = OmegaConf.to_container(config.hydra.overrides.task)
    started = config.hydra.callbacks.report.started
    write_json(sweep / SWEEP_FILE, {"started": started, "overrides": typed, "jobs": jobs})
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
    if not lines:
        return None
    head = f"{len(lines)} of {len(jobs)} jobs of the sweep are not finished:"
    tail = "The same command again skips what is finished and goes on with the rest."
    return "\n".join([head, *lines, tail])
