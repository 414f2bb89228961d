"""SLURM under a sweep: what the cluster has, and what becomes of the jobs it is given."""

import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from src.errors import UserError
from src.sweeps.records import LostJobError

SINFO = ("sinfo", "--noheader", "--exact", "--format=%P|%D|%c|%m|%G|%l")
SQUEUE = ("squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T")
ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"}
ENDED |= {"OUT_OF_MEMORY", "TIMEOUT", "REVOKED"}
GONE = "no longer in the queue, as after scancel"
SECONDS_BETWEEN_LOOKS = 30
SECONDS_OF_FILES = 15.0  # until a file of another machine is seen here


@dataclass(frozen=True)
class Nodes:
    """Nodes of a partition that are alike."""

    partition: str
    is_default: bool
    number: int
    cpus: int
    memory_gb: float
    gpus: int
    minutes: float

    def __str__(self) -> str:
        default = " (the default)" if self.is_default else ""
        limit = "" if self.minutes == float("inf") else f", for up to {self.minutes:g} minutes"
        return (
            f"{self.partition}{default}: {self.number} of {self.cpus} CPUs, "
            f"{self.memory_gb:.3g} GB and {self.gpus} GPUs{limit}"
        )

    def fixes(self, asked: dict[str, Any]) -> list[str]:
        """What a request must change to be served by these nodes, as overrides."""
        tasks = asked.get("tasks_per_node") or 1
        has = {
            "gpus_per_node": self.gpus or None,
            "cpus_per_task": self.cpus // tasks,
            "mem_gb": int(self.memory_gb) or None,
            "timeout_min": self.minutes,
        }
        values = {key: has[key] for key in has if (asked.get(key) or 0) > (has[key] or 0)}
        partition = asked.get("partition")
        if self.partition not in partition.split(",") if partition else not self.is_default:
            values["partition"] = self.partition
        return [
            "launcher=slurm_cpu"
            if (key, value) == ("gpus_per_node", None)
            else f"hydra.launcher.{key}={'null' if value is None else value}"
            for key, value in values.items()
        ]


def read_nodes(text: str) -> list[Nodes]:
    """What `SINFO` printed."""
    found = []
    for line in text.splitlines():
        partition, number, cpus, memory, gres, limit = line.split("|")
        gpus = re.findall(r"gpu(?::[^:,(]+)?:(\d+)", gres)
        found.append(
            Nodes(
                partition=partition.rstrip("*"),
                is_default=partition.endswith("*"),
                number=int(number),
                cpus=int(cpus),
                memory_gb=int(memory) / 1024,
                gpus=sum(map(int, gpus)),
                minutes=_minutes(limit),
            )
        )
    return found


def _minutes(limit: str) -> float:
    """Minutes of `days-hours:minutes:seconds`, of which SLURM leaves out leading ones."""
    if limit == "infinite":
        return float("inf")
    days, _, clock = limit.rpartition("-")
    hours, minutes, _ = [0, 0, *map(int, clock.split(":"))][-3:]
    return (int(days or 0) * 24 + hours) * 60 + minutes


def slurm_problems(launcher: DictConfig) -> list[str]:
    """Why no node of the cluster can serve what `hydra.launcher` asks for; nothing if one can."""
    asked = OmegaConf.to_container(launcher, resolve=True)
    try:
        answer = subprocess.run(SINFO, capture_output=True, text=True, timeout=60)
        error = answer.stderr.strip().rpartition("\n")[2] if answer.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as failure:
        error = str(failure)
    if error:
        return [
            "A launcher of SLURM must be used where SLURM answers; `sinfo` gave: "
            f"{error}. Log in to the cluster, or use launcher=submitit_local."
        ]
    nodes = read_nodes(answer.stdout)
    if not nodes:
        return ["SLURM must have a partition that you may use; `sinfo` lists none."]
    candidates = (each.fixes(asked) for each in nodes)
    fixes = min(candidates, key=lambda fixes: (len(fixes), "launcher=slurm_cpu" in fixes))
    if not fixes:
        return []
    keys = ("partition", "gpus_per_node", "cpus_per_task", "mem_gb", "timeout_min")
    got = ", ".join(f"{key}={asked[key]}" for key in keys if asked.get(key) is not None)
    return [
        f"`hydra.launcher` must ask for what nodes of one partition have; got {got}. The cluster "
        f"has nodes in {'; '.join(map(str, nodes))}. Use {' '.join(fixes)}."
    ]


def submit(launcher: Launcher, batch: Sequence[Sequence[str]], first: int) -> list[Any]:
    """What each job of a batch, an array, returned; a `LostJobError` for one that SLURM ended.

    Raises:
        UserError: when SLURM refuses the array.
    """
    from submitit.core.utils import FailedJobError

    _watch_the_queue()
    try:
        return list(launcher.launch(batch, first))
    except FailedJobError as error:
        words = " ".join(str(error).split())
        fix = (
            "Change what hydra.launcher asks for; `sinfo` and `sacctmgr show assoc` list what you "
            "may use."
        )
        if "job array specification" in words:
            fix = "Use hydra.sweeper.max_batch_size=1000, which submits larger sweeps in parts."
        raise UserError(
            f"SLURM must accept the jobs of the sweep; `sbatch` gave: {words}. {fix}"
        ) from error


@cache
def _watch_the_queue() -> None:
    """Let submitit learn from `squeue` which jobs are over: `sacct` is not on all clusters.

    Its jobs then give an error as their result where they had to raise one.
    """
    from submitit.core.utils import FailedJobError, UncompletedJobError
    from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

    class QueueWatcher(SlurmInfoWatcher):
        def __init__(self) -> None:
            super().__init__(delay_s=SECONDS_BETWEEN_LOOKS)
            self.over: dict[str, float] = {}  # when each job was first seen to be over

        def _make_command(self) -> list[str] | None:
            return list(SQUEUE) if self._registered - self._finished else None

        def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
            text = string if isinstance(string, str) else string.decode()
            states = dict(line.split("|") for line in text.splitlines())
            left = self._registered - self._finished
            return {job: {"State": states.get(job, GONE)} for job in left}

        def is_done(self, job_id: str, mode: str = "standard") -> bool:
            is_over = self.get_state(job_id, mode) in {*ENDED, GONE}
            if is_over:
                self.over.setdefault(job_id, time.monotonic())
            return is_over

    def result_or_error(job: SlurmJob) -> list[JobReturn | Exception]:
        job.wait()
        now = time.monotonic()
        job._results_timeout_s = SECONDS_OF_FILES - (now - job.watcher.over.get(job.job_id, now))
        try:
            return results(job)
        except UncompletedJobError:
            text = f"SLURM says of its job {job.job_id}: {job.state}. Log: {job.paths.stderr}"
            return [LostJobError(text)]
        except FailedJobError as error:
            return [error]

    SlurmJob.watcher = QueueWatcher()
    results, SlurmJob.results = SlurmJob.results, result_or_error
