"""One trial of a search: a training run whose metric goes to the study after every epoch."""

from collections.abc import Callable
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobStatus, configure_log, run_job
from hydra.types import HydraContext, RunMode
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from optuna import Trial

from src.utils.overrides import command_line, parse_overrides
from src.utils.search_checks import OWN_KEYS
from src.utils.search_space import override_text
from src.utils.sweep_devices import lock_folder, own_device, release_memory
from src.utils.sweep_names import NOT_OF_THE_JOB


class ReportToStudy(Callback):
    """Tells the study the metric of every epoch, and ends training that is not worth its time.

    It is ended when the study's pruner says so, and when the metric is no finite number. The
    epoch is completed first: its metrics and checkpoints are written.

    Args:
        trial: of the study.
        metric: name of a logged metric, e.g. `val/acc`.
        reported: epochs, counted from 1, that the study has already.

    Raises:
        ValueError: when training logged no metric of that name.
    """

    def __init__(self, trial: Trial, metric: str, reported: frozenset[int] = frozenset()) -> None:
        self.pruned = False
        self._trial = trial
        self._metric = metric
        self._reported = reported
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the metric is of this epoch."""
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the metric; ask whether to go on, unless this was the last epoch anyway."""
        if not self._validated:
            return
        self._validated = False
        if self._metric not in trainer.callback_metrics:
            raise ValueError(
                f"`search.metric` must be a metric of the validation; got {self._metric!r}. "
                f"Logged are: {', '.join(sorted(trainer.callback_metrics))}."
            )
        value, epochs = float(trainer.callback_metrics[self._metric]), trainer.current_epoch + 1
        if epochs not in self._reported:
            self._trial.report(value, epochs)
        if not isfinite(value) or (epochs < trainer.max_epochs and self._trial.should_prune()):
            self.pruned = trainer.should_stop = True


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
