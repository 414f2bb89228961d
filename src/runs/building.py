"""Objects of a run, built from its config."""

from importlib.util import find_spec
from typing import Any

from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from src.callbacks.checkpoints import BestAndLastCheckpoint, StoredConfig
from src.errors import UserError
from src.runs.evaluation import stored_config


def build(config: DictConfig, key: str, **arguments: Any) -> Any:
    """Build the object of one config key, with plain lists and dicts as its arguments."""
    return instantiate(config[key], _convert_="all", **arguments)


def build_callbacks(config: DictConfig) -> list[Callback]:
    """The config's callbacks, and the one that stores the config in checkpoints.

    With `trainer.enable_progress_bar=false` a progress bar among them is left out.
    """
    entries = config.get("callbacks") or {}
    callbacks = [build(entries, name) for name, entry in entries.items() if entry]
    if not config.trainer.get("enable_progress_bar", True):
        callbacks = [c for c in callbacks if not isinstance(c, ProgressBar)]
    return [*callbacks, StoredConfig(stored_config(config))]


def build_loggers(config: DictConfig) -> list[Logger]:
    """The config's loggers.

    Raises:
        UserError: when one needs a package that is not installed.
    """
    entries = {name: entry for name, entry in (config.get("logger") or {}).items() if entry}
    if "tensorboard" in entries and find_spec("tensorboard") is None:
        raise UserError(
            "logger=tensorboard needs the package tensorboard, which is not installed. Run "
            '`pip install -e ".[tensorboard]"`, or use logger=csv.'
        )
    return [build(entries, name) for name in entries]


def count_parameters(model: LightningModule) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def degrees_of_freedom(model: LightningModule) -> dict[str, tuple[int, int]]:
    """Dimensions that kernels can reach, and those of plain ones, of layers that tell, by name."""
    layers = model.named_modules()
    return {
        name: layer.degrees_of_freedom()
        for name, layer in layers
        if hasattr(layer, "degrees_of_freedom")
    }


def checkpoint_callback(trainer: Trainer) -> BestAndLastCheckpoint | None:
    """The trainer's callback that keeps the best and the last checkpoint, if it has one."""
    found = (c for c in trainer.callbacks if isinstance(c, BestAndLastCheckpoint))
    return next(found, None)
