"""One trial of a search: a training run whose metric goes to the study after every epoch."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobStatus, configure_log, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from src.runs.overrides import command_line, parse_overrides
from src.searches.checks import OWN_KEYS
from src.searches.space import override_text
from src.sweeps.devices import lock_folder, own_device, release_memory
from src.sweeps.names import NOT_OF_THE_JOB


def may_differ(key: str) -> bool:
    """Whether processes of one study may differ in this key: it changes no result."""
    return any(key == other or key.startswith(f"{other}.") for other in NOT_OF_THE_JOB)


def shared_overrides() -> list[str]:
    """Overrides of the command line that all trials have in common."""
    overrides = parse_overrides(command_line())
    return [o.text for o in overrides if o.key.partition(".")[0] not in OWN_KEYS]


def compose_training(overrides: list[str]) -> DictConfig:
    """The config of `src/train.py` with these overrides, and Hydra's own below `hydra`."""
    loader = GlobalHydra.instance().config_loader()
    return loader.load_configuration("train", overrides, RunMode.RUN)


def run_trial(
    task: Callable[[DictConfig], Any], study: Path, directory: str, overrides: list[str]
) -> Any:
    """Run a function as a job of a multirun, whose directory is that of the study.

    Args:
        task: gets the config, with a GPU of its own where there are several.
        study: directory of the study.
        directory: of the job, below.
        overrides: of the config of `src/train.py`.

    Returns:
        What the function returns; what it raises is raised.
    """
    places = {"hydra.sweep.dir": str(study), "hydra.sweep.subdir": directory}
    hydra = [override_text(key, value) for key, value in places.items()]
    config = compose_training([*overrides, *hydra, "hydra.mode=MULTIRUN", "hydra.job.name=train"])
    context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
    try:
        done = run_job(partial(_on_own_device, task), config, *places, context)
    finally:
        release_memory()
        own = HydraConfig.get()
        configure_log(own.job_logging, own.verbose)
    if done.status is JobStatus.FAILED:
        raise done._return_value  # `return_value` would also write to stderr
    return done.return_value


def _on_own_device(task: Callable[[DictConfig], Any], config: DictConfig) -> Any:
    with own_device(config, torch.cuda.device_count(), lock_folder()):
        return task(config)
