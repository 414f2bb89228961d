"""An exponential moving average of the weights, in place of the weights themselves."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from src.checks import check_number


class ExponentialAverage(WeightAveraging):
    r"""Validates, tests and stores an average of the weights along training.

    .. math:: \bar w \leftarrow \bar w + (1 - \text{decay})\, (w - \bar w)

    after each optimizer step, from the weights after the first one on; running statistics of batch
    norm likewise. Checkpoints have w_bar as their weights, and w beside them, from which a resumed
    run goes on. Training, and what callbacks measure at the end of an epoch, is of w.

    Args:
        decay: from 0 (w itself) to 1.
    """

    def __init__(self, decay: float = 0.99) -> None:
        check_number("decay", decay, 0, 1, fix="callbacks.ema.decay=0.99")

        def average(averaged: Tensor, current: Tensor, _: Any) -> Tensor:
            # what does not change stays exactly as it is; counts of batches have no mean
            return averaged.lerp(current, 1 - decay) if averaged.is_floating_point() else current

        super().__init__(avg_fn=average)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the average on the device that trains; the network is moved there later."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: the last checkpoint needs the weights too, and is written after this."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the average take the place of the weights."""
        self._copy_average_to_current(pl_module)
