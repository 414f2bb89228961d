"""One line per epoch in the log of a run."""

import logging
import sys

from lightning import Callback, LightningModule, Trainer

from src.callbacks.stopping import in_mid_epoch, validates_in_training

SHOWN = ("train/loss", "train/acc", "val/loss")
SHOWN += ("val/acc", "val/acc_reestimated", "val/rmse", "val/rmse_reestimated")


class EpochLog(Callback):
    """Logs loss and accuracy (or error of forecasts) after every epoch, to the log file.

    A validation in the middle of an epoch has a line of its own. The console gets the lines too
    where nobody watches the progress bar, as in the output of a batch job.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if validates_in_training(trainer) and in_mid_epoch(trainer):
            _log(trainer, f"Step {trainer.global_step}", "val/")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        of = f"/{trainer.max_epochs}" if trainer.max_epochs > 0 else ""  # -1 stands for no end
        _log(trainer, f"Epoch {trainer.current_epoch + 1}{of}")


def _log(trainer: Trainer, place: str, prefix: str = "") -> None:
    """Log the metrics whose names start with the prefix."""
    metrics = trainer.callback_metrics
    shown = [name for name in SHOWN if name in metrics and name.startswith(prefix)]
    watched = sys.stdout.isatty() and trainer.progress_bar_callback is not None
    logger = logging.getLogger("file_only" if watched else __name__)
    logger.info("%s: %s", place, ", ".join(f"{name} {metrics[name]:.4f}" for name in shown))
