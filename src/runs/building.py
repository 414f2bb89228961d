"""Objects of a run, built from its config."""

import re
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Callback, LightningDataModule, LightningModule
from lightning.pytorch.callbacks import ProgressBar, StochasticWeightAveraging, WeightAveraging
from omegaconf import DictConfig

from src.callbacks.averaging import ExponentialAverage
from src.callbacks.checkpoints import StoredConfig
from src.callbacks.reestimated import REESTIMATED, ReestimatedStatistics
from src.errors import UserError
from src.measures.macs import count_macs
from src.models.components.widths import count_parameters
from src.runs.overrides import stored_config

# Arguments of networks of relaxed layers on a group, see `src.models.components.rotation.Relaxed`.
FREE = ("num_filter_banks", "group_biases", "kernel_biases", "free_kernel")


def build(config: DictConfig, key: str, **arguments: Any) -> Any:
    """Build the object of one config key, with plain lists and dicts as its arguments."""
    return instantiate(config[key], _convert_="all", **arguments)


def build_model(config: DictConfig, datamodule: LightningDataModule) -> LightningModule:
    """Build the model, whose network must fit the data; see its `check_data`, if it has one.

    Raises:
        UserError: where `relaxation` sets free what the network's layers lack.
    """
    try:
        model = build(config, "model")
    except InstantiationException as error:
        lacking = re.search(rf"unexpected keyword argument '({'|'.join(FREE)})'", str(error))
        if lacking is None:
            raise
        network = config.model.net._target_.rpartition(".")[2]
        raise UserError(
            "`relaxation` must set free what the network's layers have; got model.net."
            f"{lacking[1]}={config.model.net[lacking[1]]} with {network}. Use model=rgcnn, "
            "rgcnn_smoke or rgunet_smoke, or another choice, such as relaxation=output."
        ) from error
    if hasattr(model, "check_data"):
        model.check_data(datamodule)
    return model


def network_size(model: LightningModule, datamodule: LightningDataModule) -> dict[str, int | None]:
    """Number of parameters, and MACs of one forward pass: of an image, or of a forecast frame.

    See `count_macs`; None where model or data do not say what the network takes.
    """
    shape = model.input_shape(datamodule) if hasattr(model, "input_shape") else None
    parameters = count_parameters(model)
    if shape is None:
        return {"num_parameters": parameters, "num_macs": None}
    inputs = torch.zeros(1, *shape, dtype=model.dtype, device=model.device)
    return {"num_parameters": parameters, "num_macs": count_macs(model, inputs)}


def build_group(config: DictConfig, group: str) -> list[Any]:
    """Build every entry of a config group; none where the group is null."""
    entries = config.get(group) or {}
    return [build(entries, name) for name, entry in entries.items() if entry]


def build_callbacks(config: DictConfig) -> list[Callback]:
    """The config's callbacks, and the one that stores the config in checkpoints.

    With `trainer.enable_progress_bar=false` a progress bar among them is left out.

    Raises:
        UserError: for one of Lightning's that average weights: the raw weights, or the number of
            epochs, are lost where a run is continued; and for one that follows a score which none
            of them makes.
    """
    callbacks = build_group(config, "callbacks")
    for callback in callbacks:
        averages = isinstance(callback, StochasticWeightAveraging | WeightAveraging)
        if averages and not isinstance(callback, ExponentialAverage):
            raise UserError(
                "Weights must be averaged by a callback that a run can be continued with; got "
                f"{type(callback).__name__}. Use callbacks=[default,ema]."
            )
    monitors = [str(getattr(callback, "monitor", "")) for callback in callbacks]
    missing = [monitor for monitor in monitors if monitor.endswith(REESTIMATED)]
    if missing and not any(isinstance(c, ReestimatedStatistics) for c in callbacks):
        raise UserError(
            "a monitor of re-estimated statistics needs `callbacks.reestimated_statistics`; got "
            f"{missing[0]!r} without. Use callbacks=[minimal,early_stopping] or [default,...], or "
            f"model.monitor={missing[0].removesuffix(REESTIMATED)}."
        )
    if not config.trainer.get("enable_progress_bar", True):
        callbacks = [c for c in callbacks if not isinstance(c, ProgressBar)]
    return [*callbacks, StoredConfig(stored_config(config))]
