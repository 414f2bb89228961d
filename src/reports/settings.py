"""Configs of runs as flat settings, and in which of them they differ."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from src.reports.reading import StoredRun
from src.runs.overrides import flatten, is_below, relocate
from src.sweeps.names import NOT_OF_THE_JOB

SEED = "seed"
PLACES = ("output_dir", "log_dir", "data_dir", "root_dir")  # of `paths`, innermost first
NOT_SET = "not set"

Settings = dict[str, Any]


def all_settings(runs: Sequence[StoredRun], kept: Iterable[str] = ()) -> list[Settings]:
    """Flat configs without seeds and circumstances, but with the keys `kept`."""
    flat = [_placeless(run.config) for run in runs]
    seeds = _seed_keys(flat)
    kept = tuple(kept)
    return [
        {
            key: value
            for key, value in entry.items()
            if key not in seeds and (is_below(key, kept) or not is_below(key, NOT_OF_THE_JOB))
        }
        for entry in flat
    ]


def differing_circumstances(runs: Sequence[StoredRun]) -> dict[str, list[str]]:
    """Values, as text, of circumstances that differ between runs; not of places on the disk."""
    flat = [_placeless(run.config) for run in runs]
    found = [
        {k: v for k, v in entry.items() if is_below(k, NOT_OF_THE_JOB) and k[:6] != "paths."}
        for entry in flat
    ]
    return {
        key: sorted({as_text(entry.get(key, NOT_SET)) for entry in found})
        for key in differing_keys(found)
    }


def differing_keys(settings: Sequence[Settings]) -> list[str]:
    """Keys that not all have, or not with one value; in the order of the configs."""
    keys = dict.fromkeys(key for entry in settings for key in entry)
    return [key for key in keys if num_distinct(settings, [key]) > 1]


def num_distinct(settings: Iterable[Settings], keys: Sequence[str]) -> int:
    """How many different values some keys have together."""
    return len({tuple(_canonical_entry(entry, key) for key in keys) for entry in settings})


def canonical(value: Any) -> str:
    """A text that is equal for equal values: 1 and 1.0 are, 1 and true are not."""
    return json.dumps(_with_floats(value), sort_keys=True, default=str)


def as_text(value: Any) -> str:
    """A config value as a reader writes it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        return repr(value)
    return value if isinstance(value, str) else json.dumps(value)


def _placeless(config: Mapping[str, Any]) -> Settings:
    """A flat config in which places on the disk are told by what they are."""
    value = dict(config)
    for place in PLACES:
        if isinstance(path := dict(flatten(value)).get(f"paths.{place}"), str):
            value = relocate(value, path, f"<{place}>")
    return dict(flatten(value))


def _seed_keys(flat: Sequence[Settings]) -> set[str]:
    """The seed, and keys that follow it."""
    named = {key for entry in flat for key in entry if key.rpartition(".")[2] == SEED}
    return {
        key
        for key in named
        if all(key in entry and entry[key] == entry.get(SEED) for entry in flat)
    } | {SEED}


def _canonical_entry(settings: Settings, key: str) -> str:
    return canonical(settings[key]) if key in settings else NOT_SET


def _with_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_floats(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_floats(entry) for entry in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
