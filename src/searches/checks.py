"""Checks of what a search is told, before its first trial."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.errors import UserError
from src.runs.config_checks import Check
from src.runs.overrides import flatten

DIRECTIONS = {"max": "maximize", "min": "minimize"}
# What a search, and a file of hparams_search, may have otherwise than src/train.py.
OWN_KEYS = ("search", "hparams_search", "task_name", "optimized_metric")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


CHECKS = (
    Check(
        "search.num_trials",
        lambda value: _is_number(value) and isinstance(value, int) and value >= 0,
        "must be a whole number of at least 0",
        "It counts the trials of the whole study, e.g. search.num_trials=20.",
    ),
    Check(
        "search.timeout",
        lambda value: value is None or (_is_number(value) and value > 0),
        "must be a number of seconds above 0, or null",
        "Use search.timeout=3600 to start no trial after an hour.",
    ),
    Check(
        "search.direction",
        lambda value: value in DIRECTIONS,
        "must be max or min",
        "Use search.direction=max for accuracies, search.direction=min for errors.",
    ),
    Check(
        "search.metric",
        lambda value: _is_text(value) and not value.startswith("test/"),
        "must be a metric of the validation: test data that choose a network cannot test it",
        "Use search.metric=val/acc.",
    ),
    Check("search.name", _is_text, "must be a name", "Use search.name=pilot."),
    Check(
        "search.storage",
        lambda value: value is None or _is_text(value),
        "must be the path of a journal, the URL of a database, or null",
        "Use search.storage=null, or search.storage=sqlite:///search.db.",
    ),
    Check(
        "resume",
        lambda value: value is None,
        "has no place in a search, which continues when its command is given again",
        "Leave it out.",
    ),
    Check(
        "trainer.devices",
        lambda value: str(value) == "1" or (isinstance(value, list) and len(value) == 1),
        "must be one device: each trial is trained on one",
        "Use trainer.devices=1, and start the command once per GPU: its processes then use "
        "different ones.",
    ),
)


def check_search(config: DictConfig) -> None:
    """Check the keys of `CHECKS`.

    Raises:
        UserError: naming every key whose value breaks its rule, the value, and a fix.
    """
    broken = []
    for check in CHECKS:
        value = OmegaConf.select(config, check.key)
        value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        if not check.test(value):
            broken.append(f"`{check.key}` {check.rule}; got {value!r}. {check.fix}")
    if broken:
        raise UserError("\n".join(broken))


def check_file(searched: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """Refuse a file of hparams_search that changes what is trained besides the searched values.

    Args:
        searched: config of the search, as nested dicts.
        training: config of `src/train.py` with the same overrides, without that file.

    Raises:
        UserError: naming the keys that differ.
    """
    with_file, without = dict(flatten(searched)), dict(flatten(training))
    changed = [
        key
        for key in sorted({*with_file, *without})
        if key.partition(".")[0] not in OWN_KEYS and with_file.get(key) != without.get(key)
    ]
    if changed:
        raise UserError(
            "A file of hparams_search must set only `search`, `hydra` and `optimized_metric`, so "
            "that the overrides of a trial are all that it takes to train it again; got "
            f"{', '.join(changed)}. Put these into an experiment, or on the command line."
        )
