"""Objects of a run, built from its config."""

from typing import Any

from hydra.utils import instantiate
from lightning import Callback
from lightning.pytorch.callbacks import ProgressBar
from omegaconf import DictConfig

from src.callbacks.checkpoints import StoredConfig
from src.runs.overrides import stored_config


def build(config: DictConfig, key: str, **arguments: Any) -> Any:
    """Build the object of one config key, with plain lists and dicts as its arguments."""
    return instantiate(config[key], _convert_="all", **arguments)


def build_group(config: DictConfig, group: str) -> list[Any]:
    """Build every entry of a config group; none where the group is null."""
    entries = config.get(group) or {}
    return [build(entries, name) for name, entry in entries.items() if entry]


def build_callbacks(config: DictConfig) -> list[Callback]:
    """The config's callbacks, and the one that stores the config in checkpoints.

    With `trainer.enable_progress_bar=false` a progress bar among them is left out.
    """
    callbacks = build_group(config, "callbacks")
    if not config.trainer.get("enable_progress_bar", True):
        callbacks = [c for c in callbacks if not isinstance(c, ProgressBar)]
    return [*callbacks, StoredConfig(stored_config(config))]
