"""Weights kept along training, for measures of the path that it takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from src.callbacks.checkpoints import StoredConfig
from src.callbacks.stopping import epochs_trained
from src.checks import check_integer
from src.files import PATH_FOLDER


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
            self._keep(trainer, pl_module, at_start=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step in self.steps:
            self._keep(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._keep(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep(trainer, pl_module)

    def _keep(self, trainer: Trainer, pl_module: LightningModule, at_start: bool = False) -> None:
        step = trainer.global_step
        if step == self._kept or trainer.fast_dev_run:
            return
        self._kept = step
        checkpoint = {
            "state_dict": pl_module.state_dict(),
            "global_step": step,
            "epochs_trained": 0.0 if at_start else float(epochs_trained(trainer)),
        }
        pl_module.on_save_checkpoint(checkpoint)
        for callback in trainer.callbacks:
            if isinstance(callback, StoredConfig):
                callback.on_save_checkpoint(trainer, pl_module, checkpoint)
        if trainer.is_global_zero:
            path = self.folder / f"step_{step:08d}.ckpt"
            trainer.strategy.checkpoint_io.save_checkpoint(checkpoint, path)
