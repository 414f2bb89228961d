"""Shares a machine's GPUs and cores among the jobs of a sweep that run at once."""

import gc
import getpass
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from src.errors import UserError


def lock_folder() -> Path:
    """Where the jobs of this user on this machine tell each other which GPUs they use."""
    visible = re.sub(r"\W+", "-", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    return Path(tempfile.gettempdir()) / f"sweep-devices-{getpass.getuser()}-{visible}"


@contextmanager
def least_used_device(num_devices: int, folder: Path) -> Iterator[int]:
    """The number of a device that no more jobs use than any other, held until the end.

    Locks of files in `folder` count the jobs: the operating system frees those of a killed one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for place in count():
        for device in range(num_devices):
            lock = FileLock(folder / f"{device}.{place}")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield device
            finally:
                lock.release()
            return


def check_one_device(config: DictConfig, num_devices: int) -> None:
    """A job of a sweep trains on one device: Lightning would start the sweep again for others.

    Raises:
        UserError: when the config asks for several.
    """
    trainer = config.trainer
    devices, nodes = trainer.devices, trainer.get("num_nodes") or 1
    every = devices in ("auto", -1, "-1")
    on_gpu = trainer.accelerator in ("auto", "gpu", "cuda")
    if every:
        number = num_devices if on_gpu else 1
    else:
        number = len(devices) if OmegaConf.is_list(devices) else int(devices)
    if number > 1 or nodes > 1:
        raise UserError(
            "A job of a sweep must train on one device; got "
            f"trainer.devices={devices} and {nodes} nodes. Use trainer.devices=1: jobs that run "
            "at once then use different GPUs. Start runs on several devices one by one, without -m."
        )


@contextmanager
def own_device(config: DictConfig, num_devices: int, folder: Path) -> Iterator[None]:
    """Set `trainer.devices` to a GPU of the job's own where the config asks for any one of several.

    Args:
        config: of the job; changed.
        num_devices: that the job sees.
        folder: of the locks.
    """
    trainer = config.trainer
    any_one = str(trainer.devices) == "1" and trainer.accelerator in ("auto", "gpu", "cuda")
    if not (config.sweep.spread_jobs and any_one and num_devices > 1):
        yield
        return
    with least_used_device(num_devices, folder) as device:
        trainer.devices = [device]
        yield


def jobs_at_once(hydra: DictConfig | Any, cores: int) -> int:
    """Processes of one machine that a launcher runs at once, as far as they share its cores."""
    target = str(OmegaConf.select(hydra, "launcher._target_"))
    if target.endswith(".JoblibLauncher"):
        jobs = int(hydra.launcher.n_jobs)
        return max(1, cores + 1 + jobs) if jobs < 0 else jobs
    if target.endswith(".LocalLauncher"):
        return int(OmegaConf.select(hydra, "sweeper.max_batch_size") or cores)
    return 1


def threads_per_job(cores: int, jobs: int) -> int:
    """Threads of each of several processes that share the cores."""
    return max(1, cores // jobs)


def share_cores() -> None:
    """Let torch use this job's share of the cores, where it would use more."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = jobs_at_once(HydraConfig.get(), cores)
    threads = threads_per_job(cores, jobs)
    if jobs > 1 and threads < torch.get_num_threads():
        torch.set_num_threads(threads)


def release_memory() -> None:
    """Free what a job leaves behind, before another one in this process."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
