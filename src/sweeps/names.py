"""Folders of sweeps and of their jobs: readable, and the same for the same command or config."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from src.runs.overrides import CIRCUMSTANCES, flatten, is_below, parse_overrides

NOT_OF_THE_JOB = (
    *CIRCUMSTANCES,
    "sweep",
    "launcher",
    "paths",
    "resume",
    "hydra",
    "search",
    "callbacks.progress_bar",
    "callbacks.epoch_log",
)
NAME_LENGTH, HASH_LENGTH = 80, 10


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


def _readable(overrides: Iterable[Override], otherwise: str) -> str:
    """Last part of each key, and the value as typed: `lr-0.01` of `model.optimizer.lr=0.01`.

    Only letters, digits, dots, dashes and underscores, no more than fit into a file name.
    """
    words = []
    for override in overrides:
        value = (override.input_line or "").partition("=")[2]
        word = f"{override.key_or_group.rpartition('.')[2]}-{value}"
        words.append(re.sub(r"[^A-Za-z0-9.]+", "-", word).strip("-."))
    return "_".join(filter(None, words))[:NAME_LENGTH].rstrip("-._") or otherwise


def parsed(texts: Iterable[str], params: Mapping[str, Any] | None = None) -> list[Override]:
    """The last override of each key, of the sweeper's parameters and of the command line."""
    return parse_overrides([*(f"{key}={value}" for key, value in (params or {}).items()), *texts])


def swept_keys(task: Iterable[str], params: Mapping[str, Any] | None) -> list[str]:
    """Keys that a sweep gives several values, by overrides as typed or the sweeper's parameters."""
    given = {override.key_or_group for override in parsed((), params)}
    return [
        override.key_or_group
        for override in parsed(task, params)
        if override.is_sweep_override() or override.key_or_group in given
    ]


def sweep_folder(name: str | None, task: Iterable[str]) -> str:
    """Name of a sweep's folder: the given one, or one made of the overrides as they were typed.

    Overrides without effect on results (`launcher`, `logger`, ...) and the order of overrides
    leave the hash at its end as it is.
    """
    if name is not None:
        return str(name)
    typed = [o for o in parsed(task) if not is_below(o.key_or_group, NOT_OF_THE_JOB)]
    return f"{_readable(typed, 'sweep')}-{_digest(sorted(o.input_line for o in typed))}"


def config_hash(config: DictConfig, swept: Iterable[str] = ()) -> str:
    """Hash of what a job computes: its config before interpolation, without circumstances.

    The keys in `swept` distinguish the jobs of a sweep, and count in any case.
    """
    swept = tuple(swept)
    values = flatten(OmegaConf.to_container(config, resolve=False))
    return _digest(
        {
            key: value
            for key, value in values
            if is_below(key, swept) or not is_below(key, NOT_OF_THE_JOB)
        }
    )


def job_folder(sweep: str, swept: Iterable[str], *, _root_: DictConfig) -> str:
    """Name of a job's folder in that of its sweep: swept values, and a hash of the config.

    A folder of the same hash is used where there is one: the same job of a sweep over other keys.
    """
    digest = config_hash(_root_, swept)
    for path in sorted(Path(sweep).glob(f"*-{digest}")):
        return path.name
    overrides = {o.key_or_group: o for o in parsed(_root_.hydra.overrides.task)}
    return f"{_readable((overrides[key] for key in swept if key in overrides), 'job')}-{digest}"


def register_sweep_resolvers() -> None:
    """Make the names of sweeps and jobs known to configs.

    All but `job_folder` are cached: the jobs of a sweep take over what was evaluated where the
    sweep was started.
    """
    for resolver in (sweep_folder, swept_keys):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
