"""Processes that train one network together: what they may do, and how they end.

Lightning starts the processes of `trainer.strategy=ddp` itself: each runs the script again, with
the same command line and `hydra.run.dir` set to the directory of the first.
"""

import ctypes
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig
from lightning import Trainer
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from omegaconf import DictConfig

from src.errors import UserError
from src.runs.overrides import in_sweep

SECONDS_TO_FAIL = 5.0  # in which processes may log why, once one of them has failed
SECONDS_TO_END = 120.0


def keep_freed_memory() -> None:
    """Let the C library (glibc) keep freed memory for the next tensors.

    Otherwise it returns a step's feature maps to the system, and the next step pays for thousands
    of page faults: 5 to 30 % of a training step on the CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**30)


def quiet_other_processes() -> None:
    """In all processes but the first, show only warnings and errors."""
    if rank_zero_only.rank != 0:
        for handler in logging.getLogger().handlers:
            handler.setLevel(logging.WARNING)


def _started_from_outside() -> bool:
    """Whether srun, torchrun or the first process started this one."""
    return "LOCAL_RANK" in os.environ or SLURMEnvironment.detect()


def check_processes(config: DictConfig) -> None:
    """Refuse that processes which start side by side each choose a directory or a seed.

    Raises:
        UserError: naming the rule, what was got, and a fix.
    """
    if config.get("resume") or not (_started_from_outside() and HydraConfig.initialized()):
        return
    named = any(o.startswith("hydra.run.dir=") for o in HydraConfig.get().overrides.hydra)
    if not named and not in_sweep():
        raise UserError(
            "`hydra.run.dir` must be given where srun or torchrun starts the processes, so that "
            "all of them use one directory; got none. Use "
            "hydra.run.dir=logs/train/runs/<name of the run>, as scripts/slurm/train.sh does."
        )
    drawn = config.get("seed", 0) is None and config.get("ckpt_path") is None
    if drawn and "PL_GLOBAL_SEED" not in os.environ:
        raise UserError(
            "`seed` must be given where srun or torchrun starts the processes, so that all of them "
            "use the same one; got null. Use seed=0."
        )


@contextmanager
def ending_processes(trainer: Trainer) -> Iterator[None]:
    """Within it the trainer may start processes; after it they have ended.

    When the run fails here or in one of them, all end.

    Raises:
        UserError: when the trainer cannot start processes here.
        RuntimeError: when a process failed after the last exchange with this one.
    """
    launcher = trainer.strategy.launcher
    starts = isinstance(launcher, _SubprocessScriptLauncher) and not _started_from_outside()
    if starts and trainer.num_nodes > 1:
        raise UserError(
            "On several machines srun or torchrun must start the processes; got "
            f"trainer.num_nodes={trainer.num_nodes} without either. Use scripts/slurm/train.sh, "
            "or trainer.num_nodes=1."
        )
    if starts and in_sweep():
        raise UserError(
            "A job of a multirun must train in one process, because others would run the whole "
            f"multirun again; got {trainer.num_devices} devices. Use trainer.devices=1, or start "
            "the runs one by one, without -m."
        )
    processes = launcher.procs if starts else []
    try:
        yield
    except BaseException:
        _end(processes, SECONDS_TO_FAIL)
        raise
    codes = _end(processes, SECONDS_TO_END)
    if any(codes):
        raise RuntimeError(
            "all processes of a run must end without an error; they ended with the statuses "
            f"{codes}. Their messages stand above, and in train_ddp_process_*.log in the run's "
            "directory."
        )


def _end(processes: list[subprocess.Popen], seconds: float) -> list[int]:
    """Wait for processes, kill those that do not end in time, and return their statuses."""
    ending = list(processes)
    processes.clear()  # Lightning watches this list, and kills this process when one of it fails
    for process in ending:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return [process.returncode for process in ending]
