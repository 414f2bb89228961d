"""A callback that ends the process once the first optimizer step is done."""

import os
from typing import Any

from lightning import Callback, LightningModule, Trainer


class ExitAtFirstStep(Callback):
    """Leaves at once and with success: what comes after the first step is not timed."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        os._exit(0)
