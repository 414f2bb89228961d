"""Checks of the values that users type and no constructor of ours checks, before any work."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.errors import UserError
from src.runs.resolvers import is_run_directory
from src.seeding import MAX_SEED

SPLITS = ("train", "val", "test")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _optional(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or test(value)


@dataclass(frozen=True)
class Check:
    """A config key, a test of its value, the rule in words, and how to mend a bad value.

    Where the key ``unless`` stands in a config too, the value means something else.
    """

    key: str
    test: Callable[[Any], bool]
    rule: str
    fix: str
    unless: str | None = None


CHECKS = (
    Check(
        "trainer.max_epochs",
        lambda value: _is_int(value) and value >= 1,
        "must be a whole number of at least 1",
        "It counts passes over the training data, e.g. trainer.max_epochs=30.",
    ),
    Check(
        "trainer.log_every_n_steps",
        lambda value: _is_int(value) and value >= 1,
        "must be a whole number of at least 1",
        "Use trainer.log_every_n_steps=1 to log every step.",
    ),
    Check(
        "seed",
        _optional(lambda value: _is_int(value) and 0 <= value <= MAX_SEED),
        f"must be a whole number from 0 to {MAX_SEED}, or null",
        "Use seed=0, or seed=null to draw one.",
    ),
    Check(
        "resume",
        _optional(lambda value: _is_text(value) and is_run_directory(value)),
        "must be a run directory (it holds config.yaml)",
        "Give the directory that the run printed, e.g. logs/train/runs/<date_time>.",
    ),
    Check(
        "ckpt_path",
        _optional(lambda value: _is_text(value) and Path(value).is_file()),
        "must be an existing checkpoint file",
        "Give the path of one, e.g. <run directory>/checkpoints/best.ckpt.",
        unless="measure",
    ),
    Check(
        "split",
        lambda value: value in SPLITS,
        f"must be one of {', '.join(SPLITS)}",
        "Use split=test for the figures to report.",
    ),
    Check(
        "paths.data_dir",
        lambda value: _is_text(value) and not Path(value).is_file(),
        "must be a folder, which is made when missing",
        "Use paths.data_dir=data, or leave it out.",
    ),
    Check(
        "tags",
        lambda value: isinstance(value, (list, tuple)) and all(_is_text(tag) for tag in value),
        "must be a list of words",
        "Use tags=[pilot,c8], or tags=[].",
    ),
    Check(
        "optimized_metric",
        _optional(_is_text),
        "must be the name of a logged metric, or null",
        "Use optimized_metric=val/acc.",
    ),
    Check(
        "sweep.name",
        _optional(lambda value: re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", str(value))),
        "must be the name of a folder, of letters, digits, dots, dashes and underscores",
        "Use sweep.name=pilot_1, or leave it out.",
    ),
    *(
        Check(
            f"sweep.{key}",
            lambda value: isinstance(value, bool),
            "must be true or false",
            f"Use sweep.{key}=true.",
        )
        for key in ("rerun", "fail_fast", "spread_jobs")
    ),
    Check(
        "logger",
        _optional(
            lambda value: (
                isinstance(value, dict)
                and all(isinstance(entry, dict) and "_target_" in entry for entry in value.values())
            )
        ),
        "must be a group of loggers",
        "Use logger=wandb, logger=csv, logger=tensorboard or logger=none.",
    ),
)


def _value(config: DictConfig, key: str) -> Any:
    value = OmegaConf.select(config, key)  # None where it is missing (`???`)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _present(config: DictConfig, key: str) -> bool:
    """Whether the key stands in the config, be it as null or as the missing value `???`."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return OmegaConf.is_dict(node) and name in node.keys()  # noqa: SIM118 -- `in node` skips ???


def _starting_point_problems(config: DictConfig) -> list[str]:
    """What is wrong with `resume` and `ckpt_path` together."""
    resume, path = _value(config, "resume"), _value(config, "ckpt_path")
    if resume is not None and path is not None:
        return [
            "`resume` and `ckpt_path` exclude each other: a resumed run has its own checkpoint; "
            f"got both. Drop ckpt_path={path} to continue the run, or drop resume={resume} to "
            "start a new one from those weights."
        ]
    if path is None and _present(config, "split"):
        return [
            "`ckpt_path` must be the checkpoint to evaluate; got none. Give the path of one, "
            "e.g. ckpt_path=<run directory>/checkpoints/best.ckpt."
        ]
    return []


def _task_problems(config: DictConfig) -> list[str]:
    """Whether model and data are of one task: forecasts start from `num_inputs` frames."""
    model, data = OmegaConf.select(config, "model"), OmegaConf.select(config, "data")
    if not (OmegaConf.is_dict(model) and OmegaConf.is_dict(data)):
        return []
    forecasts = "num_inputs" in model
    if forecasts == ("num_inputs" in data):
        return []
    got = "a model that forecasts" if forecasts else "a model that classifies"
    return [
        "`model` and `data` must be of one task: *_smoke models forecast smoke_* data, the "
        f"others classify images; got {got} and data._target_={data.get('_target_')}. Use "
        f"{'data=smoke_level' if forecasts else 'data=rotmnist'}, another model, or an "
        "experiment, e.g. experiment=rgcnn_smoke."
    ]


def broken_rules(config: DictConfig, below: str = "") -> list[str]:
    """What is wrong with the keys of `CHECKS` that `config` has.

    Args:
        config: as Hydra composed it.
        below: start of the keys to check.
    """
    broken = []
    for check in CHECKS:
        elsewhere = check.unless is not None and _present(config, check.unless)
        if elsewhere or not check.key.startswith(below) or not _present(config, check.key):
            continue
        value = _value(config, check.key)
        if not check.test(value):
            broken.append(f"`{check.key}` {check.rule}; got {value!r}. {check.fix}")
    return broken


def check_config(config: DictConfig) -> None:
    """Refuse a config that breaks a rule.

    Raises:
        UserError: naming every key whose value breaks its rule, the value, and a fix.
    """
    problems = [
        *broken_rules(config),
        *_starting_point_problems(config),
        *_task_problems(config),
    ]
    if problems:
        raise UserError("\n".join(problems))
