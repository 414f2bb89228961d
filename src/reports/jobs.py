"""Runs that are not finished, and jobs that have no run: why, and how to go on."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.files import CHECKPOINTS, LAST
from src.reports.reading import Collection, Damaged, StoredRun

ENDED = ("finished", "pruned")
SKIPPED = "skipped"
DAMAGED, MISSING = "damaged", "missing"
TOLD = {
    "killed": "No summary.json: the process was killed, or is still running.",
    "interrupted": "Ended by a signal.",
    "not started": "An earlier job failed, and the sweep was told to start no further ones.",
    "running elsewhere": "Another process was at work on it.",
    MISSING: "The sweep's record names this directory; it is not there.",
}


@dataclass(frozen=True)
class Unfinished:
    """A run or a job that did not reach its end.

    Attributes:
        directory: of the run, or where it was to be.
        what: the overrides it was started with.
        status: ``failed``, ``killed``, ``interrupted``, ``not started``, ``missing``, ...
        error: what it said, or what its status means.
        command: that runs it again or goes on with it; empty where nothing tells.
    """

    directory: Path
    what: str
    status: str
    error: str
    command: str


def unfinished(found: Collection) -> list[Unfinished]:
    """Everything that did not reach its end, in the order of the paths."""
    jobs = {
        (sweep / job["directory"]).resolve(): (sweep, job)
        for sweep, record in found.sweeps.items()
        for job in record["jobs"]
    }
    entries = [
        _of_run(run, *jobs.get(run.directory.resolve(), (None, None)), found.sweeps)
        for run in found.runs
        if run.status not in ENDED
    ]
    entries += [_of_damaged(damaged) for damaged in found.damaged]
    known = {run.directory.resolve() for run in found.runs}
    known |= {damaged.directory.resolve() for damaged in found.damaged}
    entries += [
        _of_job(sweep, job, found.sweeps)
        for place, (sweep, job) in jobs.items()
        if place not in known
    ]
    return sorted(entries, key=lambda entry: str(entry.directory))


def repetition(run: StoredRun) -> str:
    """The command that makes the same run anew; empty where nothing tells."""
    if not run.overrides and not run.environment:
        return ""
    script, flags = "src/train.py", []
    words = shlex.split(run.environment.get("command", ""))
    for word in words:
        script = word if word.endswith(".py") else script
        if word.startswith(("--config-dir=", "--config-name=")):
            flags.append(word)
    return shlex.join(["python", script, *flags, *run.overrides])


def _of_run(
    run: StoredRun,
    sweep: Path | None,
    job: dict[str, Any] | None,
    sweeps: dict[Path, dict[str, Any]],
) -> Unfinished:
    said = run.summary.get("error") or (job or {}).get("error") or TOLD.get(run.status, "")
    typed = run.overrides or (job or {}).get("overrides", [])
    if (run.directory / CHECKPOINTS / LAST).is_file():
        command = shlex.join(["python", "src/train.py", f"resume={run.directory}"])
    elif sweep is not None:
        command = _sweep_command(sweeps[sweep], run.environment)
    else:
        command = repetition(run)
    return Unfinished(run.directory, shlex.join(typed), run.status, said, command)


def _of_job(sweep: Path, job: dict[str, Any], sweeps: dict[Path, dict[str, Any]]) -> Unfinished:
    status = MISSING if job["status"] in (*ENDED, SKIPPED) else job["status"]
    said = job.get("error") or TOLD.get(status, "")
    what = shlex.join(job.get("overrides", []))
    return Unfinished(
        sweep / job["directory"], what, status, said, _sweep_command(sweeps[sweep], {})
    )


def _of_damaged(damaged: Damaged) -> Unfinished:
    return Unfinished(damaged.directory, "", DAMAGED, damaged.reason, "")


def _sweep_command(record: dict[str, Any], environment: dict[str, Any]) -> str:
    """The command of the sweep, which skips what is finished."""
    words = shlex.split(environment.get("command", ""))
    if "-m" in words or "--multirun" in words:
        return shlex.join(["python", *words[1:]])
    typed: Iterable[str] = record.get("overrides", [])
    return shlex.join(["python", "src/train.py", "-m", *typed])
