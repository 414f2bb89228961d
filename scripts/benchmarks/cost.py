"""Hours that an experiment trains, from measured steps of its network at their real sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from src.data.rotmnist.datamodule import RotatedMNISTDataModule
from src.data.smoke.datamodule import SmokeDataModule
from src.runs.building import build, count_parameters
from src.runs.console import quiet_third_party
from src.runs.resolvers import register_resolvers

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
WARM_UP = 1  # steps that are not counted


@dataclass(frozen=True)
class Cost:
    """What the training of an experiment takes.

    Attributes:
        network: the model's config.
        parameters: number of trainable parameters.
        batch: samples per optimizer step.
        measured_batch: samples per step that was timed.
        steps: optimizer steps of the whole training.
        measured_seconds: of a timed step: forward, backward and update.
    """

    network: str
    parameters: int
    batch: int
    measured_batch: int
    steps: int
    measured_seconds: float

    @property
    def seconds(self) -> float:
        """Of a step of the whole batch, taken to be proportional to the batch."""
        return self.measured_seconds * self.batch / self.measured_batch

    @property
    def hours(self) -> float:
        """Of all steps, without validation, tests and measures."""
        return self.seconds * self.steps / 3600

    def row(self, experiment: str) -> dict[str, Any]:
        """Columns of the table."""
        return {
            "experiment": experiment,
            "network": self.network,
            "parameters": f"{self.parameters:,}",
            "batch": self.batch,
            "timed batch": self.measured_batch,
            "steps": f"{self.steps:,}",
            "s/step": self.seconds,
            "hours": self.hours,
        }


class RandomSamples(Dataset):
    """As many samples as are asked for, all one and the same.

    Args:
        sample: image and label, or window.
        size: number of samples.
    """

    def __init__(self, sample: Any, size: int) -> None:
        self.sample = sample
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return self.sample


class StepTimes(Callback):
    """Seconds of every step, with the device waited for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock."""
        _wait(pl_module.device)
        self._started = perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the clock."""
        _wait(pl_module.device)
        self.seconds.append(perf_counter() - self._started)


def compose_experiment(name: str, overrides: list[str]) -> DictConfig:
    """The config of an experiment."""
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", [f"experiment={name}", *overrides], return_hydra_config=True)


def estimate(config: DictConfig, device: torch.device, num_steps: int, most: int | None) -> Cost:
    """Time steps of an experiment's network on random samples of the experiment's shape.

    The data set is neither simulated nor downloaded: its size and shapes follow from the config.

    Args:
        config: of the experiment, as `compose_experiment` gives it.
        device: where to train.
        num_steps: number of steps to time, of which the fastest counts.
        most: time steps of at most so many samples; None: of the whole batch.
    """
    quiet_third_party()
    model = build(config, "model")
    sample, num_samples = training_data(build_data(config))
    batch = config.data.batch_size
    measured_batch = batch if most is None else min(batch, most)
    epochs = config.trainer.max_epochs
    return Cost(
        network=config.hydra.runtime.choices.model,
        parameters=count_parameters(model),
        batch=batch,
        measured_batch=measured_batch,
        steps=epochs * ceil(num_samples / batch),
        measured_seconds=time_steps(model, sample, measured_batch, device, num_steps),
    )


def build_data(config: DictConfig) -> RotatedMNISTDataModule | SmokeDataModule:
    """The experiment's data module, not set up."""
    with_folder = OmegaConf.merge(config, {"data": {"data_dir": "data"}})
    return build(with_folder, "data")


def training_data(
    data: RotatedMNISTDataModule | SmokeDataModule,
) -> tuple[tuple[Tensor, Tensor] | Tensor, int]:
    """A random sample of the shape of the training samples, and how many of these there are."""
    if isinstance(data, SmokeDataModule):
        windows = data.windows["train"]
        return torch.randn(windows.length, *data.image_shape), len(windows)
    return (torch.randn(data.image_shape), torch.tensor(0)), data.source.sizes["train"]


def time_steps(
    model: LightningModule, sample: Any, batch: int, device: torch.device, num_steps: int
) -> float:
    """Seconds of the fastest training step, with the model's own optimizer and schedule."""
    times = StepTimes()
    steps = WARM_UP + num_steps
    trainer = Trainer(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        max_epochs=1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        callbacks=[times],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(RandomSamples(sample, steps * batch), batch_size=batch)
    trainer.fit(model, loader, loader)
    return min(times.seconds[WARM_UP:])


def _wait(device: torch.device) -> None:
    wait: Callable[[], None] | None = {
        "cuda": torch.cuda.synchronize,
        "mps": torch.mps.synchronize,
    }.get(device.type)
    if wait is not None:
        wait()
