"""Checkpoints: when and how they are written."""

import io
import time
from copy import deepcopy
from math import isnan
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor

from src.callbacks.reestimated import REESTIMATED, VALIDATION, ReestimatedStatistics
from src.callbacks.stopping import (
    epochs_trained,
    in_mid_epoch,
    out_of_time,
    validates_in_training,
)
from src.checks import check_choice, check_integer
from src.files import BEST, LAST, write_bytes


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
        try:
            torch.save(checkpoint, buffer)
        except RuntimeError as error:
            end = error.__context__
            if isinstance(end, KeyboardInterrupt | SystemExit):
                raise end from None  # Ctrl-C in mid-write, over which torch raises its own error
            raise
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
    """Keeps `best.ckpt`, the weights with the best monitored score, and `last.ckpt`.

    A score of validation data (`val/...`) is judged at the end of each validation, while the
    network has the weights it was taken of; another metric at the end of each validated epoch.
    Where the score is one of `ReestimatedStatistics` (`val/..._reestimated`), `best.ckpt` holds the
    statistics of batch norm that it was scored with; `last.ckpt` holds the running ones.

    `last.ckpt` is written once an epoch is over in every respect: after its metrics reached the
    loggers and after schedulers that follow a metric took their step. A run that is killed at
    any moment and continued from it therefore repeats nothing and misses nothing. `best.ckpt`
    takes its place just after, so that it is the one that `last.ckpt` speaks of. The state holds
    no paths, so that a run directory may be moved and continued elsewhere.

    An epoch that a time limit cuts short is left out, to be repeated as a whole. Training that
    ended early for another reason, such as early stopping, has ended: resumed, it does no step.

    Args:
        dirpath: directory of both files.
        monitor: name of a logged metric, e.g. `val/acc_reestimated`.
        mode: `max` or `min`, whichever is better. Of equal scores the first is kept.
        first_epoch: epochs before this one, counted from 0, are never the best: for networks
            that are not yet what they shall be. In a run of no more epochs the last one is.

    Attributes:
        best, last: ``epochs_trained`` and ``metrics`` of the weights in the two files; metrics of
            validation only where those weights were validated.
        seconds_before: time that a resumed run took until the checkpoint it is continued from.

    Raises:
        ValueError: for a wrong argument, and when training logged no metric of that name.
    """

    def __init__(self, dirpath: str, monitor: str, mode: str = "max", first_epoch: int = 0) -> None:
        check_integer("first_epoch", first_epoch, minimum=0)
        check_choice("mode", mode, ("max", "min"))
        self.dirpath = Path(dirpath)
        self.monitor = monitor
        self.mode = mode
        self.first_epoch = first_epoch
        self.best: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self.stopped = False  # training has ended early, for good
        self.seconds_before = 0.0
        self._started = time.monotonic()
        self._validated = False  # in this epoch
        self._placed: dict[str, Any] = {}  # what `best.ckpt` is
        self._scored_with: dict[str, Tensor] = {}  # statistics, while the best is written
        self._fit_loop_at_epoch_end: dict[str, Any] | None = None

    @property
    def best_model_path(self) -> str:
        """Path of the best checkpoint, empty before there is one."""
        path = self.dirpath / BEST
        return str(path) if self.best and path.is_file() else ""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = self.stopped
        self._place_best(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not validates_in_training(trainer):
            return
        self._validated = True
        if self.monitor.startswith(VALIDATION):
            metrics = trainer.callback_metrics.items()
            scores = {name: float(v) for name, v in metrics if name.startswith(VALIDATION)}
            self._judge(trainer, self._reached(trainer, scores))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        validated, self._validated = self._validated, False
        if trainer.fast_dev_run:
            return
        if in_mid_epoch(trainer) and out_of_time(trainer):
            self.best = self._placed
            self._place_best(trainer)
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.last = self._reached(trainer, metrics)
        self._fit_loop_at_epoch_end = deepcopy(trainer.fit_loop.state_dict())
        if self.best.get("step") == self.last["step"]:
            self.best = deepcopy(self.last)  # with the metrics of the whole epoch
        elif validated and not self.monitor.startswith(VALIDATION):
            self._judge(trainer, deepcopy(self.last))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._fit_loop_at_epoch_end is not None:
            trainer.save_checkpoint(self.dirpath / LAST)
            self._fit_loop_at_epoch_end = None
            self._place_best(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stopped = trainer.should_stop and not out_of_time(trainer)
        if self._fit_loop_at_epoch_end is not None:  # what was measured at the end of training
            metrics = trainer.callback_metrics.items()
            late = {name: float(v) for name, v in metrics if name.startswith("dynamics/")}
            self.last["metrics"] |= late
            if self.best.get("step") == self.last["step"]:
                self.best["metrics"] |= late
        self.on_train_epoch_start(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["epochs_trained"] = epochs_trained(trainer)
        state = checkpoint["state_dict"]
        state.update({n: buffer.to(state[n].dtype) for n, buffer in self._scored_with.items()})
        checkpoint.get("callbacks", {}).pop("Timer", None)  # each start has the whole time limit
        if self._fit_loop_at_epoch_end is not None:
            # Lightning can resume from the loop as it stood at the end of the epoch.
            checkpoint["loops"]["fit_loop"] = self._fit_loop_at_epoch_end
            checkpoint |= {key: self.last[key] for key in ("epoch", "epochs_trained")}

    def state_dict(self) -> dict[str, Any]:
        seconds = self.seconds_before + time.monotonic() - self._started
        state = {"best": self.best, "last": self.last, "stopped": self.stopped}
        return state | {"seconds": seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.last = state_dict["best"], state_dict["last"]
        self.stopped = state_dict.get("stopped", False)
        self.seconds_before = state_dict.get("seconds", 0.0)

    def _reached(self, trainer: Trainer, metrics: dict[str, float]) -> dict[str, Any]:
        """How far training is, and metrics of the weights it has."""
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        return place | {"epochs_trained": epochs_trained(trainer), "metrics": metrics}

    def _judge(self, trainer: Trainer, reached: dict[str, Any]) -> None:
        """Write the weights if they are the best so far."""
        if trainer.fast_dev_run:
            return
        first = self.first_epoch
        if trainer.max_epochs > 0:  # -1 stands for no end
            first = min(first, trainer.max_epochs - 1)
        if self.best and self.best["epoch"] < first:
            self.best = {}  # of a run that was to be shorter
        is_best = self._is_best(reached["metrics"]) and reached["epoch"] >= first
        if trainer.strategy.broadcast(is_best):  # all processes save together, or none
            self.best = reached
            if self.monitor.endswith(REESTIMATED):
                for callback in trainer.callbacks:
                    if isinstance(callback, ReestimatedStatistics):
                        self._scored_with = callback.validated
            trainer.save_checkpoint(self._new_best())
            self._scored_with = {}

    def _new_best(self) -> Path:
        """Where the best checkpoint is until `last.ckpt` speaks of it."""
        return self.dirpath / f"best_{self.best.get('step')}.new"

    def _place_best(self, trainer: Trainer) -> None:
        """Let the best checkpoint take its place; remove others, of a start that was killed."""
        if trainer.is_global_zero:
            if self._new_best().is_file():
                self._new_best().replace(self.dirpath / BEST)
            for path in self.dirpath.glob("best_*.new"):
                path.unlink()
        self._placed = self.best
        trainer.strategy.barrier()

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
