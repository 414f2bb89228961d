"""The values that a search tries, as the config has them."""

import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from src.errors import UserError
from src.runs.overrides import flatten

TYPES = {
    "float": (FloatDistribution, "{type: float, low: 1e-4, high: 1e-1, log: true}"),
    "int": (IntDistribution, "{type: int, low: 8, high: 32, step: 8}"),
    "categorical": (CategoricalDistribution, "{type: categorical, choices: [c4, c8]}"),
}


def read_space(
    entries: Any, config: Mapping[str, Any], groups: set[str]
) -> dict[str, BaseDistribution]:
    """Read `search.space`: by config key or group, the values to draw.

    Args:
        entries: entry for every key, such as the examples in `TYPES`.
        config: config of a training, as nested dicts, in which the keys must stand.
        groups: names of config groups, whose options may be tried.

    Raises:
        UserError: naming every entry that breaks a rule, what was got, and a fix.
    """
    if not isinstance(entries, Mapping) or not entries:
        raise UserError(
            f"`search.space` must hold the values to try, by config key; got {entries!r}. Use a "
            "file of configs/hparams_search, e.g. hparams_search=learning_rate."
        )
    known = dict(flatten(config))
    space, broken = {}, []
    for key, entry in entries.items():
        if key not in known and key not in groups:
            below = [name for name in known if name.startswith(f"{key}.")]
            near = below[:3] or get_close_matches(str(key), known) or ["what --cfg job shows"]
            broken.append(
                f"search.space, {key}: the key must be that of a value in the config, or a group; "
                f"got one that is not. Use {' or '.join(near)}."
            )
            continue
        try:
            space[key] = _distribution(entry)
        except ValueError as error:
            broken.append(f"search.space, {key}: {error}")
    if broken:
        raise UserError("\n".join(broken))
    return space


def _distribution(entry: Any) -> BaseDistribution:
    kind = entry.get("type") if isinstance(entry, Mapping) else None
    if kind not in TYPES:
        raise ValueError(
            f"`type` must be float, int or categorical; got {entry!r}. Use, e.g., "
            f"{TYPES['float'][1]}."
        )
    distribution, example = TYPES[kind]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Optuna would change the range, or not store choices
            return distribution(**{name: value for name, value in entry.items() if name != "type"})
    except (TypeError, ValueError, UserWarning) as error:
        raise ValueError(f"{error} Got {entry!r}; use, e.g., {example}.") from error
