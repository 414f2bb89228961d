"""What a network answers to each test sample, beside the truth, as a file."""

import io
import json
import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from src.checks import wrong
from src.files import write_bytes

log = logging.getLogger(__name__)


class PredictionFile(Callback):
    """Writes what the test steps return as one NumPy file, `numpy.load(path)`.

    It holds ``<set>/<name>`` for each set, by the split or by ``test_names`` of data that have
    several, such as ``test/logits`` [N, classes] and
    ``test/labels`` [N], or ``future/forecast`` and ``future/truth`` [N, T, 2, H, W] with the
    frames ``future/known`` [N, n, 2, H, W] before them, in cells per time unit, or with the density
    as a third channel; and ``metadata``, JSON. All samples are kept in memory until it is written.

    Args:
        path: file to write; it replaces an older one.
        metadata: ``split``, and what else tells where they are from, in types that JSON has.
    """

    def __init__(self, path: str | Path, metadata: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.metadata = dict(metadata)
        self._batches: dict[str, list[np.ndarray]] = defaultdict(list)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size > 1:
            rule = "1 to write predictions, each process seeing its own samples"
            raise ValueError(wrong("devices", rule, trainer.world_size, "trainer.devices=1"))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Mapping[str, Tensor],
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        part = self.metadata["split"]
        if len(trainer.num_test_batches) > 1:
            part = trainer.datamodule.test_names[dataloader_idx]
        for name, values in outputs.items():
            values = values.float() if values.is_floating_point() else values
            self._batches[f"{part}/{name}"].append(values.cpu().numpy())

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        arrays = {name: np.concatenate(batches) for name, batches in self._batches.items()}
        content = io.BytesIO()
        np.savez(content, metadata=np.array(json.dumps(self.metadata)), **arrays)
        write_bytes(self.path, content.getvalue())
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        log.info("Wrote %s: %s.", self.path, shapes)
