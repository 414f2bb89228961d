"""One line per epoch in the log of a run."""

import logging
import sys

from lightning import Callback, LightningModule, Trainer

SHOWN = ("train/loss", "train/acc", "val/loss", "val/acc", "val/rmse")


class EpochLog(Callback):
    """Logs loss and accuracy (or error of forecasts) after every epoch, to the log file.

    The console gets the line too where nobody watches the progress bar, as in the output of a
    batch job.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        values = ", ".join(f"{name} {metrics[name]:.4f}" for name in SHOWN if name in metrics)
        watched = sys.stdout.isatty() and trainer.progress_bar_callback is not None
        logger = logging.getLogger("file_only" if watched else __name__)
        logger.info("Epoch %s/%s: %s", trainer.current_epoch + 1, trainer.max_epochs, values)
