"""The config under which a checkpoint is evaluated."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.runs.overrides import command_line, parse_overrides, relocate, set_value


def stored_config(config: DictConfig) -> dict[str, Any]:
    """The parts of a resolved config that a checkpoint needs to be rebuilt elsewhere."""
    plain = OmegaConf.to_container(config)
    return {key: plain[key] for key in ("model", "data", "seed", "paths", "task_name")}


def evaluation_config(composed: DictConfig, stored: dict[str, Any]) -> DictConfig:
    """Network, data and seed as the checkpoint has them, then the command line's overrides.

    A group choice (`model=gcnn`) replaces the whole group, a value (`data.batch_size=100`) only
    itself. Data are looked for in this machine's `paths.data_dir`.

    Args:
        composed: the config that Hydra composed from `configs/eval.yaml`.
        stored: what `stored_config` put into the checkpoint.
    """
    config = OmegaConf.create(OmegaConf.to_container(composed, resolve=True))
    overrides = parse_overrides(command_line())
    chosen = {override.key for override in overrides if override.is_group}
    here = relocate(stored, stored["paths"]["data_dir"], config.paths.data_dir)
    for key in ("model", "data", "seed"):
        if key not in chosen:
            set_value(config, key, here[key])
    for override in overrides:
        if not override.is_group:
            set_value(config, override.key, OmegaConf.select(composed, override.key))
    return config
