"""Checkpoints: when and how they are written."""

import os
from contextlib import suppress
from copy import deepcopy
from math import isnan
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint

from src.checks import check_integer
from src.files import BEST, LAST


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, then renames it.

    Lightning writes to the system's temporary folder and moves from there; between two file
    systems that is a copy, which a kill can leave half done over the previous checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Save `checkpoint` to `path`: afterwards the old or the new file is there, whole."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


class StoredConfig(Callback):
    """Puts the parts of the config that rebuild network and data into every checkpoint.

    Args:
        config: plain dicts, lists and scalars, stored under the key `config`.
    """

    describes_run = True  # for other callbacks that write checkpoints

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the config to the checkpoint."""
        checkpoint["config"] = deepcopy(self.config)


class BestAndLastCheckpoint(Checkpoint):
    """Keeps `best.ckpt`, of the epoch with the best monitored metric, and `last.ckpt`.

    `last.ckpt` is written once an epoch is over in every respect: after its metrics reached the
    loggers and after schedulers that follow a metric took their step. A run that is killed at
    any moment and continued from it therefore repeats nothing and misses nothing.

    The state holds no paths, so that a run directory may be moved and continued elsewhere.

    Args:
        dirpath: directory of both files.
        monitor: name of a logged metric, e.g. `val/acc`.
        mode: `max` or `min`, whichever is better. Of equal epochs the first is kept.
        first_epoch: epochs before this one, counted from 0, are never the best: for networks
            that are not yet what they shall be. In a run of no more epochs the last one is.

    Raises:
        ValueError: when `mode` is neither, or `first_epoch` no number of an epoch; when training
            logged no metric of that name.
    """

    def __init__(
        self, dirpath: str, monitor: str = "val/acc", mode: str = "max", first_epoch: int = 0
    ) -> None:
        check_integer("first_epoch", first_epoch, minimum=0)
        if mode not in ("max", "min"):
            raise ValueError(
                f"`mode` must be max or min; got {mode!r}. Use max for accuracies, min for errors."
            )
        self.dirpath = Path(dirpath)
        self.monitor = monitor
        self.mode = mode
        self.first_epoch = first_epoch
        self.best: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self._validated = False
        self._fit_loop_at_epoch_end: dict[str, Any] | None = None

    @property
    def best_model_path(self) -> str:
        """Path of the best checkpoint, empty before there is one."""
        path = self.dirpath / BEST
        return str(path) if self.best and path.is_file() else ""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the monitored metric is of this epoch."""
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the epoch's metrics, and keep the network when it is the best so far."""
        if trainer.fast_dev_run:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.last = {"epoch": trainer.current_epoch, "metrics": metrics}
        self._fit_loop_at_epoch_end = deepcopy(trainer.fit_loop.state_dict())
        first = _within(self.first_epoch, trainer.max_epochs)
        if self.best and self.best["epoch"] < first:
            self.best = {}  # of a run that was to be shorter
        may_be_best = self._validated and self._is_best(metrics)
        is_best = may_be_best and self.last["epoch"] >= first
        if trainer.strategy.broadcast(is_best):  # all processes save together, or none
            self.best = deepcopy(self.last)
            trainer.save_checkpoint(self.dirpath / BEST)
        self._validated = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the epoch that has just been completed."""
        self._save_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final epoch."""
        self._save_last(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the loop as it stood at the end of the epoch, where Lightning can resume."""
        if self._fit_loop_at_epoch_end is not None:
            checkpoint["loops"]["fit_loop"] = self._fit_loop_at_epoch_end
            checkpoint["epoch"] = self.last["epoch"]

    def state_dict(self) -> dict[str, Any]:
        """Epoch and metrics of the best and of the last epoch."""
        return {"best": self.best, "last": self.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.best, self.last = state_dict["best"], state_dict["last"]

    def _save_last(self, trainer: Trainer) -> None:
        if self._fit_loop_at_epoch_end is not None:
            trainer.save_checkpoint(self.dirpath / LAST)
            self._fit_loop_at_epoch_end = None

    def _is_best(self, metrics: dict[str, float]) -> bool:
        if self.monitor not in metrics:
            raise ValueError(
                f"`callbacks.checkpoint.monitor` must name a logged metric; got {self.monitor!r}. "
                f"Logged are: {', '.join(sorted(metrics))}."
            )
        value = metrics[self.monitor]
        if not self.best or isnan(value):
            return not isnan(value)
        best = self.best["metrics"][self.monitor]
        return value > best if self.mode == "max" else value < best


def _within(epoch: int, max_epochs: int | None) -> int:
    """The epoch, or the last one of a run that has fewer; -1 and None stand for no end."""
    has_end = max_epochs is not None and max_epochs > 0
    return min(epoch, max_epochs - 1) if has_end else epoch
