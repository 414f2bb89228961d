"""What became of each job of a sweep, told by files: jobs may run on other machines."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from src.files import RECORDS, write_json, write_text

STOP = "stop"
# A record is first "running": the word stays when the process of the job is killed.
STATUSES = ("finished", "skipped", "failed", "running elsewhere", "not started", "running")


def records_folder(sweep: str | Path, started: str) -> Path:
    """Where the jobs of one start of a sweep leave their records."""
    return Path(sweep) / RECORDS / started


@dataclass(frozen=True)
class Job:
    """One job of a sweep, as one start of the sweep takes it up.

    Attributes:
        number: in this start of the sweep.
        directory: of the run.
        folder: of the records of this start.
        overrides: that the job has, as typed.
    """

    number: int
    directory: Path
    folder: Path
    overrides: tuple[str, ...]

    @classmethod
    def current(cls, config: DictConfig) -> "Job":
        """The job that this process is in."""
        hydra = HydraConfig.get()
        return cls(
            number=int(hydra.job.num),
            directory=Path(config.paths.output_dir),
            folder=records_folder(hydra.sweep.dir, hydra.callbacks.report.started),
            overrides=tuple(hydra.overrides.task),
        )

    def record(self, status: str, error: str | None = None) -> None:
        """Write what became of the job."""
        entry = {
            "job": self.number,
            "directory": self.directory.name,
            "overrides": list(self.overrides),
            "status": status,
            "error": error,
        }
        write_json(self.folder / f"{self.number}.json", entry)

    def earlier_with_same_config(self) -> int | None:
        """Number of an earlier job of this start that has the same directory."""
        same = (
            entry["job"]
            for entry in read_records(self.folder)
            if entry["directory"] == self.directory.name and entry["job"] < self.number
        )
        return next(same, None)

    def stop_further_jobs(self) -> None:
        """Let no job start that has not started yet."""
        write_text(self.folder / STOP, f"Job {self.number} failed.\n")

    @property
    def is_stopped(self) -> bool:
        """Whether an earlier job let no further one start."""
        return (self.folder / STOP).is_file()


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Records of one start of a sweep, by the number of the job."""
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sorted(entries, key=lambda entry: entry["job"])


def sweeps_every_combination() -> bool:
    """Whether jobs are those of Hydra's own sweeper, which asks for no config twice."""
    target = OmegaConf.select(HydraConfig.get(), "sweeper._target_") or ""
    return str(target).endswith(".BasicSweeper")
