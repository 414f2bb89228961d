"""The values that a search tries: read from the config, checked, drawn, written as overrides."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from optuna import Trial
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from src.errors import UserError
from src.runs.overrides import flatten

EXAMPLES = {
    "float": "{type: float, low: 1e-4, high: 1e-1, log: true}",
    "int": "{type: int, low: 8, high: 32, step: 8}",
    "categorical": "{type: categorical, choices: [c4, c8]}",
}
FIELDS = {
    "float": {"type", "low", "high", "log", "step"},
    "int": {"type", "low", "high", "log", "step"},
    "categorical": {"type", "choices"},
}

_PLAIN = re.compile(r"[A-Za-z_/.][\w/.-]*")
_NOT_TEXT = {"null", "true", "false", "nan", "inf"}


def override_text(key: str, value: Any) -> str:
    """`key=value` as Hydra reads it back: text is quoted where it would be read otherwise."""
    if value is None or isinstance(value, bool):
        return f"{key}={'null' if value is None else str(value).lower()}"
    if not isinstance(value, str):
        return f"{key}={value!r}"
    if _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return f"{key}={value}"
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


@dataclass(frozen=True)
class Parameter:
    """A config key and the values it may take.

    Attributes:
        key: of a value (`model.optimizer.lr`), or of a group (`model`).
        values: one of Optuna's distributions.
    """

    key: str
    values: BaseDistribution

    def draw(self, trial: Trial) -> Any:
        """The trial's value, drawn unless the trial has one already."""
        match self.values:
            case CategoricalDistribution(choices=choices):
                return trial.suggest_categorical(self.key, choices)
            case IntDistribution(low=low, high=high, step=step, log=log):
                return trial.suggest_int(self.key, low, high, step=step, log=log)
            case FloatDistribution(low=low, high=high, step=step, log=log):
                return trial.suggest_float(self.key, low, high, step=step, log=log)
        raise AssertionError(f"no such values: {self.values}")


def read_space(entries: Any, config: Mapping[str, Any], groups: set[str]) -> list[Parameter]:
    """Read and check `search.space`.

    Args:
        entries: by config key, what to try: see `EXAMPLES`.
        config: of a training, as nested dicts: the keys must stand in it.
        groups: names of config groups, of which options may be tried.

    Raises:
        UserError: naming every entry that breaks a rule, what was got, and a fix.
    """
    if not isinstance(entries, Mapping) or not entries:
        raise UserError(
            f"`search.space` must hold the values to try, by config key; got {entries!r}. Use a "
            "file of configs/hparams_search, e.g. hparams_search=learning_rate."
        )
    known = dict(flatten(config))
    parameters, broken = [], []
    for key, entry in entries.items():
        try:
            _check_key(str(key), entry, known, groups)
            parameters.append(Parameter(str(key), _values(entry)))
        except ValueError as error:
            broken.append(f"search.space, {key}: {error}")
    if broken:
        raise UserError("\n".join(broken))
    return parameters


def _check_key(key: str, entry: Any, known: Mapping[str, Any], groups: set[str]) -> None:
    if key in groups:
        if isinstance(entry, Mapping) and entry.get("type") not in (None, "categorical"):
            raise ValueError(
                f"options of a group must be of type categorical; got {entry['type']!r}. Use "
                f"{{type: categorical, choices: [...]}} with files of configs/{key}."
            )
    elif any(name.startswith(f"{key}.") for name in known):
        raise ValueError(
            "the key must be that of a value; got that of a section. Use a key below it, e.g. "
            f"{next(name for name in known if name.startswith(f'{key}.'))}."
        )
    elif key not in known:
        near = get_close_matches(key, known, n=3) or ["the keys that src/train.py --cfg job shows"]
        raise ValueError(
            f"the key must stand in the config; got one that does not. Use {' or '.join(near)}."
        )


def _values(entry: Any) -> BaseDistribution:
    kind = entry.get("type") if isinstance(entry, Mapping) else None
    if kind not in FIELDS:
        raise ValueError(
            f"`type` must be float, int or categorical; got {entry if kind is None else kind!r}. "
            f"Use, e.g., {EXAMPLES['float']}."
        )
    unknown = set(map(str, entry)) - FIELDS[kind]
    if unknown:
        raise ValueError(
            f"type {kind} knows {', '.join(sorted(FIELDS[kind] - {'type'}))}; got "
            f"{', '.join(sorted(unknown))}. Use, e.g., {EXAMPLES[kind]}."
        )
    return _choices(entry) if kind == "categorical" else _range(entry, kind)


def _choices(entry: Mapping[str, Any]) -> CategoricalDistribution:
    choices = entry.get("choices")
    plain = isinstance(choices, list) and all(
        choice is None or isinstance(choice, (bool, int, float, str)) for choice in choices
    )
    if not plain or not choices or len({repr(choice) for choice in choices}) < len(choices):
        raise ValueError(
            "`choices` must be a list of different plain values (numbers, words, true, false, "
            f"null); got {choices!r}. Use, e.g., {EXAMPLES['categorical']}."
        )
    return CategoricalDistribution(choices)


def _range(entry: Mapping[str, Any], kind: str) -> FloatDistribution | IntDistribution:
    for name in ("low", "high"):
        _check_number(name, entry.get(name), kind)
    low, high, log, step = (entry.get(name) for name in ("low", "high", "log", "step"))
    if low >= high:
        raise ValueError(
            f"`low` must be below `high`; got low={low} and high={high}. Swap them, or leave the "
            "key out and fix its value on the command line."
        )
    if log not in (None, True, False):
        raise ValueError(f"`log` must be true or false; got {log!r}. Use log: true.")
    if log and low <= 0:
        raise ValueError(
            f"a logarithmic range must begin above 0; got low={low}. Raise it, or use log: false."
        )
    if step is not None:
        _check_step(low, high, bool(log), step, kind)
    if kind == "int":
        return IntDistribution(low, high, log=bool(log), step=step or 1)
    return FloatDistribution(float(low), float(high), log=bool(log), step=step)


def _check_number(name: str, value: Any, kind: str) -> None:
    wanted = {"int": int, "float": (int, float)}[kind]
    words = {"int": "a whole number", "float": "a finite number"}[kind]
    if not isinstance(value, wanted) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"`{name}` must be {words}; got {value!r}. Use, e.g., {EXAMPLES[kind]}.")


def _check_step(low: float, high: float, log: bool, step: Any, kind: str) -> None:
    _check_number("step", step, kind)
    if step <= 0 or log:
        raise ValueError(
            f"`step` must be above 0, and has no place in a logarithmic range; got step={step}"
            f"{' with log: true' if log else ''}. Leave out one of them."
        )
    rest = (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step))
    if rest:
        raise ValueError(
            f"`high` must be `low` plus a multiple of `step`; got low={low}, high={high} and "
            f"step={step}. Use high: {Decimal(str(high)) - rest}."
        )
