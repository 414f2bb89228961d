"""Checks of the values that users type and no constructor of ours checks, before any work."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from src.errors import UserError
from src.runs.resolvers import is_run_directory
from src.seeding import MAX_SEED

SPLITS = ("train", "val", "test")


class Check(NamedTuple):
    """A config key, a test of its value, the rule in words, and how to mend a bad value."""

    key: str
    test: Callable[[Any], bool]
    rule: str
    fix: str


def _is_integer(value: Any, least: int, most: float) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


CHECKS = (
    Check(
        "trainer.max_epochs",
        lambda value: _is_integer(value, 1, float("inf")),
        "must be a whole number of at least 1",
        "It counts passes over the training data, e.g. trainer.max_epochs=30.",
    ),
    Check(
        "seed",
        lambda value: value is None or _is_integer(value, 0, MAX_SEED),
        f"must be a whole number from 0 to {MAX_SEED}, or null",
        "Use seed=0, or seed=null to draw one.",
    ),
    Check(
        "resume",
        lambda value: value is None or (isinstance(value, str) and is_run_directory(value)),
        "must be a run directory (it holds config.yaml)",
        "Give the directory that the run printed, e.g. logs/train/runs/<date_time>.",
    ),
    Check(
        "split",
        lambda value: value in SPLITS,
        f"must be one of {', '.join(SPLITS)}",
        "Use split=test for the figures to report.",
    ),
    Check(
        "tags",
        lambda value: isinstance(value, list) and all(isinstance(tag, str) for tag in value),
        "must be a list of words",
        "Use tags=[pilot,c8], or tags=[].",
    ),
    Check(
        "sweep.name",
        lambda value: value is None or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", str(value)),
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
)


def _present(config: DictConfig, key: str) -> bool:
    """Whether the key stands in the config, be it as null or as the missing value `???`."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return OmegaConf.is_dict(node) and name in node.keys()  # noqa: SIM118 -- `in node` skips ???


def broken_rules(config: DictConfig, below: str = "") -> list[str]:
    """What is wrong with the keys of `CHECKS` that `config` has and that start with `below`."""
    broken = []
    for check in CHECKS:
        if check.key.startswith(below) and _present(config, check.key):
            value = OmegaConf.select(config, check.key)  # None where it is missing (`???`)
            if OmegaConf.is_config(value):
                value = OmegaConf.to_container(value, resolve=True)
            if not check.test(value):
                broken.append(f"`{check.key}` {check.rule}; got {value!r}. {check.fix}")
    return broken


def check_config(config: DictConfig) -> None:
    """Refuse a config that breaks a rule.

    Raises:
        UserError: naming every key whose value breaks its rule, the value, and a fix.
    """
    problems = broken_rules(config)
    resume, path = (OmegaConf.select(config, key) for key in ("resume", "ckpt_path"))
    if resume is not None and path is not None:
        problems.append(
            "`resume` and `ckpt_path` exclude each other: a resumed run has its own checkpoint; "
            f"got both. Drop ckpt_path={path} to continue the run, or drop resume={resume} to "
            "start a new one from those weights."
        )
    evaluates = _present(config, "ckpt_path") and not _present(config, "resume")
    if (evaluates and path is None) or (path and not Path(str(path)).exists()):
        problems.append(
            f"`ckpt_path` must be the path of an existing checkpoint; got {path}. Use for example "
            "ckpt_path=<run directory>/checkpoints/best.ckpt."
        )
    if _present(config, "model") and _present(config, "data"):
        # forecasts start from `num_inputs` frames, which windows of frames have too
        forecasts = _present(config, "model.num_inputs")
        if forecasts != _present(config, "data.num_inputs"):
            task, fix = ("forecasts", "smoke_level") if forecasts else ("classifies", "rotmnist")
            problems.append(
                "`model` and `data` must be of one task: *_smoke models forecast smoke_* data, "
                f"the others classify images; got a model that {task} and data of the other task. "
                f"Use data={fix}, another model, or an experiment, e.g. experiment=rgcnn_smoke."
            )
    if problems:
        raise UserError("\n".join(problems))
