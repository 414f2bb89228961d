"""Shares a machine's GPUs and cores among the jobs of a sweep that run at once."""

import gc
import multiprocessing
import os

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from src.errors import UserError

GPU = ("auto", "gpu", "cuda")  # values of `trainer.accelerator`


def check_one_device(config: DictConfig) -> None:
    """A job of a sweep trains on one device: Lightning would start the sweep again for others.

    Raises:
        UserError: when the config asks for several.
    """
    devices, nodes = config.trainer.devices, config.trainer.get("num_nodes") or 1
    if devices in ("auto", -1, "-1"):
        number = torch.cuda.device_count() if config.trainer.accelerator in GPU else 1
    else:
        number = len(devices) if OmegaConf.is_list(devices) else int(devices)
    if number > 1 or nodes > 1:
        raise UserError(
            "A job of a sweep must train on one device; got "
            f"trainer.devices={devices} and {nodes} nodes. Use trainer.devices=1: jobs that run "
            "at once then use different GPUs. Start runs on several devices one by one, without -m."
        )


def spread(config: DictConfig, number: int) -> None:
    """Let job `number` of a sweep, or trial of a search, train on GPU `number` modulo their number.

    Only where the config asks for any one GPU; its `trainer.devices` is changed.
    """
    devices = torch.cuda.device_count()
    any_one = str(config.trainer.devices) == "1" and config.trainer.accelerator in GPU
    if config.sweep.spread_jobs and any_one and devices > 1:
        config.trainer.devices = [number % devices]


def jobs_at_once(hydra: DictConfig, cores: int) -> int:
    """Processes of one machine that a launcher runs at once, as far as they share its cores."""
    target = str(OmegaConf.select(hydra, "launcher._target_"))
    if target.endswith(".JoblibLauncher"):
        jobs = int(hydra.launcher.n_jobs)
        return max(1, cores + 1 + jobs) if jobs < 0 else jobs
    if target.endswith(".LocalLauncher"):
        return int(OmegaConf.select(hydra, "sweeper.max_batch_size") or cores)
    return 1


def available_cores() -> int:
    """Cores of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def share_cores() -> None:
    """Let torch use this job's share of the cores, where it would use more."""
    cores = available_cores()
    jobs = jobs_at_once(HydraConfig.get(), cores)
    if jobs > 1:
        torch.set_num_threads(min(torch.get_num_threads(), max(1, cores // jobs)))


def start_workers_as_usual() -> None:
    """Let data loaders start their workers in the way of this system, also in joblib's processes.

    Loky makes its own way the default there, which lacks what a forked worker has.
    """
    usual = multiprocessing.get_all_start_methods()  # the default first
    if multiprocessing.get_start_method() not in usual:
        multiprocessing.set_start_method(usual[0], force=True)


def release_memory() -> None:
    """Free what a job leaves behind, before another one in this process."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
