"""Checkpoints: when and how they are written."""

import io
from collections.abc import Sequence
from copy import deepcopy
from math import isnan
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint

from src.checks import check_choice, check_integer
from src.files import BEST, LAST, PATH_FOLDER, write_bytes


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, then renames it.

    Lightning writes to the system's temporary folder and moves from there; between two file
    systems that is a copy, which a kill can leave half done over the previous checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write `path`: afterwards the old or the new file is there, whole."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(path, buffer.getvalue())


class StoredConfig(Callback):
    """Puts the parts of the config that rebuild network and data into every checkpoint.

    Args:
        config: plain dicts, lists and scalars, stored under the key `config`.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = deepcopy(self.config)


class BestAndLastCheckpoint(Checkpoint):
    """Keeps `best.ckpt`, of the epoch with the best monitored metric, and `last.ckpt`.

    `last.ckpt` is written once an epoch is over in every respect: after its metrics reached the
    loggers and after schedulers that follow a metric took their step. A run that is killed at
    any moment and continued from it therefore repeats nothing and misses nothing. The state holds
    no paths, so that a run directory may be moved and continued elsewhere.

    Args:
        dirpath: directory of both files.
        monitor: name of a logged metric, e.g. `val/acc`.
        mode: `max` or `min`, whichever is better. Of equal epochs the first is kept.
        first_epoch: epochs before this one, counted from 0, are never the best: for networks
            that are not yet what they shall be. In a run of no more epochs the last one is.

    Raises:
        ValueError: for a wrong argument, and when training logged no metric of that name.
    """

    def __init__(
        self, dirpath: str, monitor: str = "val/acc", mode: str = "max", first_epoch: int = 0
    ) -> None:
        check_integer("first_epoch", first_epoch, minimum=0)
        check_choice("mode", mode, ("max", "min"))
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
        self._validated = True  # the monitored metric is of this epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.fast_dev_run:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.last = {"epoch": trainer.current_epoch, "metrics": metrics}
        self._fit_loop_at_epoch_end = deepcopy(trainer.fit_loop.state_dict())
        first = self.first_epoch
        if trainer.max_epochs > 0:  # -1 stands for no end
            first = min(first, trainer.max_epochs - 1)
        if self.best and self.best["epoch"] < first:
            self.best = {}  # of a run that was to be shorter
        is_best = self._validated and self._is_best(metrics) and trainer.current_epoch >= first
        if trainer.strategy.broadcast(is_best):  # all processes save together, or none
            self.best = deepcopy(self.last)
            trainer.save_checkpoint(self.dirpath / BEST)
        self._validated = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._fit_loop_at_epoch_end is not None:
            trainer.save_checkpoint(self.dirpath / LAST)
            self._fit_loop_at_epoch_end = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._fit_loop_at_epoch_end is not None:
            # Lightning can resume from the loop as it stood at the end of the epoch.
            checkpoint["loops"]["fit_loop"] = self._fit_loop_at_epoch_end
            checkpoint["epoch"] = self.last["epoch"]

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "last": self.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.last = state_dict["best"], state_dict["last"]

    def _is_best(self, metrics: dict[str, float]) -> bool:
        if self.monitor not in metrics:
            raise ValueError(
                f"`callbacks.checkpoint.monitor` must name a logged metric; got {self.monitor!r}. "
                f"Logged are: {', '.join(sorted(metrics))}."
            )
        value = metrics[self.monitor]
        best = self.best["metrics"][self.monitor] if self.best else None
        if best is None or isnan(value):
            return not isnan(value)
        return value > best if self.mode == "max" else value < best


class WeightPath(Callback):
    """Keeps the weights before the first step, every k epochs, at chosen steps and at the end.

    Files ``<dirpath>/path/step_<optimizer steps>.ckpt`` hold the weights, what rebuilds network
    and data, and ``epochs_trained``; no optimizer state. They can be evaluated, exported and
    measured as other checkpoints. A run that is resumed writes the same files again. Nothing is
    kept in a ``fast_dev_run``.

    Args:
        dirpath: folder of the run's checkpoints.
        every_n_epochs: k, a positive integer.
        steps: positive numbers of optimizer steps after which weights are kept too.
    """

    def __init__(self, dirpath: str, every_n_epochs: int = 5, steps: Sequence[int] = ()) -> None:
        check_integer("every_n_epochs", every_n_epochs)
        for step in steps:
            check_integer("steps", step)
        self.folder = Path(dirpath) / PATH_FOLDER
        self.every_n_epochs = every_n_epochs
        self.steps = frozenset(steps)
        self._kept: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0:
            self._keep(trainer, pl_module, epochs_trained=0.0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step in self.steps:
            part = (batch_idx + 1) / trainer.num_training_batches
            self._keep(trainer, pl_module, trainer.current_epoch + part)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs_trained = trainer.current_epoch + 1
        if epochs_trained % self.every_n_epochs == 0:
            self._keep(trainer, pl_module, float(epochs_trained))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep(trainer, pl_module, float(trainer.current_epoch))

    def _keep(self, trainer: Trainer, pl_module: LightningModule, epochs_trained: float) -> None:
        step = trainer.global_step
        if step == self._kept or trainer.fast_dev_run:
            return
        self._kept = step
        checkpoint = {
            "state_dict": pl_module.state_dict(),
            "global_step": step,
            "epochs_trained": epochs_trained,
        }
        pl_module.on_save_checkpoint(checkpoint)
        for callback in trainer.callbacks:
            if isinstance(callback, StoredConfig):
                callback.on_save_checkpoint(trainer, pl_module, checkpoint)
        if trainer.is_global_zero:
            path = self.folder / f"step_{step:08d}.ckpt"
            trainer.strategy.checkpoint_io.save_checkpoint(checkpoint, path)
