"""Runs that are not finished, and jobs that have no run: why, and how to go on."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from src.files import CHECKPOINTS, LAST
from src.reports.reading import Collection, StoredRun, SweepJob
from src.runs.overrides import shell_command

ENDED = ("finished", "pruned")
MEANINGS = {
    "killed": "No summary.json: the process was killed, or is still running.",
    "interrupted": "Ended by a signal.",
    "not started": "An earlier job failed, and the sweep was told to start no further ones.",
    "running elsewhere": "Another process was at work on it.",
    "missing": "The sweep's record names this directory; it is not there.",
}


@dataclass(frozen=True)
class Unfinished:
    """A run or a job that did not reach its end: why, and the command that goes on with it."""

    directory: Path
    status: str
    error: str
    overrides: str = ""
    command: str = ""


def find_unfinished(found: Collection) -> list[Unfinished]:
    """Everything that did not reach its end, in the order of the paths."""
    jobs = {job.directory.resolve(): job for job in found.jobs}
    entries = [Unfinished(path, "damaged", reason) for path, reason in found.damaged.items()]
    for run in found.runs:
        job = jobs.get(run.directory.resolve())
        if run.status in ENDED:
            continue
        if (run.directory / CHECKPOINTS / LAST).is_file():
            command = shell_command("train", resume=run.directory)
        else:
            command = repetition(run) if job is None else _sweep_command(job, run)
        error = run.summary.get("error") or (job.error if job else "")
        typed = shlex.join(run.overrides or (job.overrides if job else []))
        error = error or MEANINGS.get(run.status, "")
        entries.append(Unfinished(run.directory, run.status, error, typed, command))
    known = {path.resolve() for path in (*(run.directory for run in found.runs), *found.damaged)}
    for place, job in jobs.items():
        if place not in known:
            status = "missing" if job.status in (*ENDED, "skipped") else job.status
            error = job.error or MEANINGS.get(status, "")
            typed = shlex.join(job.overrides)
            entries.append(Unfinished(job.directory, status, error, typed, _sweep_command(job)))
    return sorted(entries, key=lambda entry: str(entry.directory))


def repetition(run: StoredRun) -> str:
    """The command that makes the same run anew; empty where it is not known."""
    if not run.overrides and not run.environment:
        return ""
    words = shlex.split(run.environment.get("command", ""))
    script = next((word for word in words if word.endswith(".py")), "src/train.py")
    flags = [word for word in words if word.startswith(("--config-dir=", "--config-name="))]
    return shlex.join(["python", script, *flags, *run.overrides])


def _sweep_command(job: SweepJob, run: StoredRun | None = None) -> str:
    """The command of the sweep, which skips what is finished."""
    words = shlex.split(run.environment.get("command", "")) if run else []
    if "-m" in words or "--multirun" in words:
        return shlex.join(["python", *words[1:]])
    return shlex.join(["python", "src/train.py", "-m", *job.sweep_overrides])
