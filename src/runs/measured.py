"""Network and data of the checkpoints that are measured."""

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning import LightningDataModule, LightningModule
from omegaconf import DictConfig

from src.data.samples import first_loader, first_samples, spread_samples
from src.measures import PathPoint
from src.measures.batch_norm import statistics_of
from src.runs.building import build
from src.runs.checkpoints import Stored, load_weights, position
from src.runs.results import tested_metrics

log = logging.getLogger(__name__)

PRECISION = "32-true"  # of all measures: differences between weights are lost in fewer digits


class Measured:
    """Network and data, on the device to measure on, of checkpoints trained with one config."""

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.module: LightningModule = build(config, "model")
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        self.trainer = build(config, "trainer", precision=PRECISION, **quiet)
        if config.trainer.precision != PRECISION:
            text = "Measured in precision %s; the run's is %s."
            log.warning(text, PRECISION, config.trainer.precision)
        self.device = self.trainer.strategy.root_device

    @cached_property
    def datamodule(self) -> LightningDataModule:
        datamodule = build(self.config, "data")
        datamodule.prepare_data()
        datamodule.setup()
        return datamodule

    def load(self, checkpoint: Mapping[str, Any], path: Path) -> None:
        load_weights(self.module, checkpoint, path)
        self.module.to(self.device)

    def batches(self, split: str, num_samples: int) -> list[Any]:
        """Fixed samples without augmentation; those of training at equal distances over the set."""
        loader = first_loader(getattr(self.datamodule, f"{split}_dataloader")())
        read = spread_samples if split == "train" else first_samples
        to_device = self.trainer.strategy.batch_to_device
        return [to_device(batch, self.device) for batch in read(loader, num_samples)]

    def statistics(self, num_samples: int) -> list[Any]:
        """Training samples to estimate statistics of batch norm on; none for networks without."""
        if num_samples == 0 or not statistics_of(self.module):
            return []
        sample = getattr(self.datamodule, "sample_training", None)
        if sample is None:
            return self.batches("train", num_samples)
        to_device = self.trainer.strategy.batch_to_device
        return [to_device(batch, self.device) for batch in sample(num_samples)]

    def score(self) -> dict[str, float]:
        metrics = tested_metrics(self.trainer, self.module, self.datamodule)
        self.module.to(self.device)
        return {n: v for n, v in metrics.items() if not n.startswith("test/strict/")}

    def path(self, stored: Stored, batches: list[Any]) -> list[PathPoint]:
        """The states that the run kept along training, up to this one, which is loaded last."""
        points = []
        for checkpoint in stored.path_of_training():
            self.load(checkpoint, stored.path)
            state = self.module.objective(batches).network.state_dict()
            copies = {name: tensor.clone() for name, tensor in state.items()}
            points.append(PathPoint(copies, **position(checkpoint)))
        return points
