"""Processes that train one network together: what they may do, and how they end.

Lightning starts the processes of `trainer.strategy=ddp` itself: each runs the script again, with
the same command line and `hydra.run.dir` set to the directory of the first.
"""

import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from omegaconf import DictConfig, OmegaConf

from src.errors import UserError
from src.models.components.gcnn.relaxation import relaxed_layers

SECONDS_TO_FAIL = 5.0  # for processes to tell why, once one of them has failed
SECONDS_TO_END = 120.0


def quiet_other_processes() -> None:
    """Of all processes but the first, let only warnings and errors be told."""
    if rank_zero_only.rank != 0:
        for handler in logging.getLogger().handlers:
            handler.setLevel(logging.WARNING)


def check_processes(config: DictConfig) -> None:
    """Refuse what the processes of a run could not do together, before any work.

    Raises:
        UserError: naming the rule, what was got, and a fix.
    """
    strategy = str(OmegaConf.select(config, "trainer.strategy", default="auto"))
    accelerator = str(OmegaConf.select(config, "trainer.accelerator", default="auto"))
    on_cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if strategy.startswith("fsdp") and not on_cuda:
        raise UserError(
            "trainer=fsdp splits the weights over CUDA devices; got trainer.accelerator="
            f"{accelerator} on a machine with {torch.cuda.device_count()} of them. Use "
            "trainer=ddp_sim to try several processes on the CPU."
        )
    if OmegaConf.select(config, "trainer.sync_batchnorm", default=False) and not on_cuda:
        raise UserError(
            "`trainer.sync_batchnorm` needs CUDA devices, because PyTorch synchronises batch norm "
            f"on them alone; got trainer.accelerator={accelerator} on a machine with "
            f"{torch.cuda.device_count()} of them. Use trainer.sync_batchnorm=false."
        )
    if _started_from_outside() and HydraConfig.initialized():
        _check_agreed(config)


def _started_from_outside() -> bool:
    """Whether srun, torchrun or the first process started this one, so that it has siblings."""
    return "LOCAL_RANK" in os.environ or SLURMEnvironment.detect()


def _check_agreed(config: DictConfig) -> None:
    """Processes that start side by side must not each choose a directory and a seed."""
    hydra = HydraConfig.get()
    named = any(o.startswith("hydra.run.dir=") for o in hydra.overrides.hydra)
    if hydra.mode == RunMode.RUN and not named and config.get("resume") is None:
        raise UserError(
            "`hydra.run.dir` must be given where srun or torchrun starts the processes, so that "
            "all of them use one directory; got none. Use "
            "hydra.run.dir=logs/train/runs/<name of the run>, as scripts/slurm/train.sh does."
        )
    drawn = config.get("seed", 0) is None and config.get("ckpt_path") is None
    if drawn and config.get("resume") is None and "PL_GLOBAL_SEED" not in os.environ:
        raise UserError(
            "`seed` must be given where srun or torchrun starts the processes, so that all of them "
            "use the same one; got null. Use seed=0."
        )


def check_trainer(trainer: Trainer, model: LightningModule) -> None:
    """Refuse what several processes of this trainer would do wrong, before they start.

    Raises:
        UserError: naming the rule, what was got, and a fix.
    """
    if _starts_processes(trainer):
        _check_can_start(trainer)
    _check_weights_are_whole(trainer, model)


def _starts_processes(trainer: Trainer) -> bool:
    launcher = trainer.strategy.launcher
    return isinstance(launcher, _SubprocessScriptLauncher) and not _started_from_outside()


def _check_can_start(trainer: Trainer) -> None:
    if trainer.num_nodes > 1:
        raise UserError(
            "On several machines srun or torchrun must start the processes; got "
            f"trainer.num_nodes={trainer.num_nodes} without either. Use scripts/slurm/train.sh, "
            "or trainer.num_nodes=1."
        )
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError(
            "A job of a multirun must train in one process, because others would run the whole "
            f"multirun again; got {trainer.num_devices} devices. Use trainer.devices=1, or start "
            "the runs one by one, without -m."
        )


def _check_weights_are_whole(trainer: Trainer, model: LightningModule) -> None:
    """Refuse what reads weights or gradients where each process holds a part of them.

    A measure of a part would give a figure, and a wrong one.
    """
    if not isinstance(trainer.strategy, FSDPStrategy):
        return
    reading = [type(c).__name__ for c in trainer.callbacks if getattr(c, "reads_weights", False)]
    if reading:
        raise UserError(
            "Measures and pictures of weights need whole weights, of which each process has a part "
            f"with trainer=fsdp; got {', '.join(reading)}. Use callbacks=minimal, or trainer=ddp."
        )
    relaxed = list(relaxed_layers(model))
    if relaxed:
        raise UserError(
            "The relaxation penalty needs whole weights, of which each process has a part with "
            f"trainer=fsdp; got the relaxed layers {', '.join(relaxed[:3])}. Use trainer=ddp, or a "
            "network without relaxed layers."
        )


@contextmanager
def ending_processes(trainer: Trainer) -> Iterator[None]:
    """Within it the trainer may start processes; behind it they have ended.

    When the run fails here or in one of them, all end. Nothing happens for a trainer that starts
    none.

    Raises:
        RuntimeError: when a process failed after the last exchange with this one.
    """
    if not _starts_processes(trainer):
        yield
        return
    processes = trainer.strategy.launcher.procs
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
