"""The times at which a measure of the network is taken, and how its values are logged."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import tensor

from src.callbacks.stopping import epochs_trained
from src.checks import check_integer

EPOCHS_TRAINED = "epochs_trained"


class DynamicsCallback(Callback):
    """Measures before the first step, after every k-th epoch, and at the end of training.

    Every row carries ``epochs_trained``, the x axis to plot against: 0 before the first step, k
    after k epochs (Lightning's own ``epoch`` is 0 both before and after the first one), and 1.5
    where training ends in the middle of the second. The first row lies at step 0, the others where
    Lightning logs its epoch averages.

    - Values before the first step go straight to the loggers and are kept in ``start_values``
      (also across a resumed run, which does not measure them again).
    - Later ones stand in ``trainer.callback_metrics`` too, but only while they are up to date: an
      epoch without a measurement takes them out. After ``fit`` they are those of the last epoch.

    Subclasses give ``measure``.

    Args:
        every_n_epochs: k, a positive integer.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        check_integer("every_n_epochs", every_n_epochs)
        self.every_n_epochs = every_n_epochs
        self.start_values: dict[str, float] = {}
        self._measured_after: int | None = None
        self._logged: list[str] = []

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """Values by their full logged name; empty where the network lacks what is measured."""
        raise NotImplementedError

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._logged = []
        if trainer.global_step == 0:
            row = self._row(trainer, pl_module, epochs=0)
            self.start_values = {n: value for n, value in row.items() if n != EPOCHS_TRAINED}
            _log_row(trainer, row, epoch=0, step=0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = trainer.current_epoch + 1
        for name in self._logged:
            trainer.callback_metrics.pop(name, None)
        # Training that stops elsewhere is left to `on_train_end`.
        out_of_epochs = epochs == trainer.max_epochs
        out_of_steps = 0 <= trainer.max_steps <= trainer.global_step
        is_last = out_of_epochs or out_of_steps or trainer.should_stop
        if epochs % self.every_n_epochs == 0 or is_last:
            self.log_dict(self._row(trainer, pl_module, epochs), sync_dist=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = trainer.current_epoch
        if epochs == 0 or self._measured_after == epochs:
            return
        row = self._row(trainer, pl_module, epochs)
        trainer.callback_metrics.update({name: tensor(value) for name, value in row.items()})
        _log_row(trainer, row, epochs - 1, max(trainer.global_step - 1, 0))

    def state_dict(self) -> dict[str, Any]:
        return {"start_values": self.start_values, "measured_after": self._measured_after}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.start_values = state_dict["start_values"]
        self._measured_after = state_dict["measured_after"]

    def _row(self, trainer: Trainer, pl_module: LightningModule, epochs: int) -> dict[str, float]:
        self._measured_after = epochs
        # Every process measures, so that none waits long; the figures are the first one's.
        values = trainer.strategy.broadcast(self.measure(trainer, pl_module))
        trained = float(epochs_trained(trainer)) if epochs else 0.0
        row = {**values, EPOCHS_TRAINED: trained} if values else {}
        self._logged = list(row)
        return row


def _log_row(trainer: Trainer, row: dict[str, float], epoch: int, step: int) -> None:
    """Give every logger one row of values outside Lightning's own logging; nothing if empty."""
    if row and trainer.is_global_zero:
        for logger in trainer.loggers:
            logger.log_metrics({**row, "epoch": epoch}, step=step)
            logger.save()
