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


def _is_part(value: Any) -> bool:
    """Whether a value is a number of batches, or a fraction of all."""
    return _is_integer(value, 1, float("inf")) or (isinstance(value, float) and 0 < value <= 1)


CHECKS = (
    Check(
        "trainer.max_epochs",
        lambda value: value is None or _is_integer(value, 1, float("inf")),
        "must be a whole number of at least 1, or null",
        "It counts passes over the training data, e.g. trainer.max_epochs=30.",
    ),
    Check(
        "trainer.max_steps",
        lambda value: value == -1 or _is_integer(value, 1, float("inf")),
        "must be a whole number of at least 1, or -1 for no end",
        "It counts optimizer steps, e.g. trainer.max_steps=2000.",
    ),
    *(
        Check(
            key,
            lambda value: value is None or isinstance(value, dict),
            "must be a config, as the files of its group are",
            f"Use {key.replace('.', '/')}={example}; --help lists the others.",
        )
        for key, example in (("model.optimizer", "sgd"), ("model.scheduler", "cosine"))
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
        lambda value: (
            isinstance(value, list)
            and all(isinstance(tag, str) and 1 <= len(tag) <= 64 for tag in value)
        ),
        "must be a list of words of 1 to 64 letters",
        "Use tags=[pilot,c8], or tags=[].",
    ),
    Check(
        "logger.wandb.project",
        lambda value: isinstance(value, str) and re.fullmatch(r"[^/\\#?%:]{1,128}", value),
        r"must be a name of 1 to 128 letters, none of them one of /\#?%:",
        "Set WANDB_PROJECT (in the environment or .env), or logger.wandb.project=pilot.",
    ),
    Check(
        "trainer.limit_train_batches",
        lambda value: value is None or _is_part(value),
        "must be a number of batches of at least 1, a fraction of them up to 1.0, or null",
        "Use trainer.limit_train_batches=10, or null for all.",
    ),
    Check(
        "sweep.name",
        lambda value: value is None or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", str(value)),
        "must be the name of a folder, of letters, digits, dots, dashes and underscores",
        "Use sweep.name=pilot_1, or leave it out.",
    ),
    *(
        Check(
            key,
            lambda value: isinstance(value, bool),
            "must be true or false",
            f"Use {key}=true.",
        )
        for key in ("sweep.rerun", "sweep.fail_fast", "sweep.spread_jobs", "trust")
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
                value = OmegaConf.to_container(value)
            if not check.test(value):
                broken.append(f"`{check.key}` {check.rule}; got {value!r}. {check.fix}")
    return broken


def unmeasured(config: DictConfig) -> list[str]:
    """What is wrong with `optimized_metric`: it is of data that the run does not look at."""
    metric = str(OmegaConf.select(config, "optimized_metric"))
    if not metric.startswith(("val/", "test/")) or not _present(config, "trainer"):
        return []
    trainer, problem = config.trainer, None
    if trainer.get(limit := f"limit_{metric.partition('/')[0]}_batches") == 0:
        problem = f"trainer.{limit}=0"
    elif metric.startswith("val/"):
        every, epochs = trainer.get("check_val_every_n_epoch"), trainer.get("max_epochs")
        if _is_integer(every, 1, float("inf")) and _is_integer(epochs, 1, every - 1):
            problem = f"trainer.check_val_every_n_epoch={every} in {epochs} epochs"
    if problem is None:
        return []
    rule = "`optimized_metric` must be a metric that the run measures"
    return [f"{rule}; got {metric} with {problem}. Change one of them."]


def check_config(config: DictConfig) -> None:
    """Refuse a config that breaks a rule.

    Raises:
        UserError: naming every key whose value breaks its rule, the value, and a fix.
    """
    problems = broken_rules(config)
    trainer = config.get("trainer") or {}
    if trainer.get("max_epochs", 1) is None and trainer.get("max_steps", -1) == -1:
        problems.append(
            "`trainer.max_epochs` may be null where `trainer.max_steps` ends training; got null "
            "and -1. Set one of them."
        )
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
    problems += unmeasured(config)
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
