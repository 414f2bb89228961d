"""Reports to an Optuna study how a trial of a search comes along."""

from math import isfinite
from typing import TYPE_CHECKING

from lightning import Callback, LightningModule, Trainer

if TYPE_CHECKING:
    from optuna import Trial


class ReportToStudy(Callback):
    """Reports the metric of every epoch, and ends training that is not worth its time.

    It is ended when the study's pruner says so, and when the metric is no finite number. The
    epoch is completed first: its metrics and checkpoints are written.

    Args:
        trial: trial of the study.
        metric: name of a logged metric, e.g. `val/rmse`; a ValueError if training logs none such.
        reported: epochs, counted from 1, that the study has already.
    """

    def __init__(self, trial: "Trial", metric: str, reported: frozenset[int] = frozenset()) -> None:
        self.pruned = False
        self._trial = trial
        self._metric = metric
        self._reported = reported
        self._metrics: dict[str, float] | None = None  # of the epoch's last validation

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics, self._metrics = self._metrics, None
        if metrics is None:
            return
        if self._metric not in metrics:
            raise ValueError(
                f"`search.metric` must be a metric of the validation; got {self._metric!r}. "
                f"Logged are: {', '.join(sorted(metrics))}."
            )
        value, epochs = metrics[self._metric], trainer.current_epoch + 1
        if epochs not in self._reported:
            self._trial.report(value, epochs)
        # After the last epoch there is nothing to prune.
        if not isfinite(value) or (epochs < trainer.max_epochs and self._trial.should_prune()):
            self.pruned = trainer.should_stop = True
