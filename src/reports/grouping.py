"""Rows of the report: runs whose configs differ in nothing but the seed."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import pandas as pd

from src.errors import UserError
from src.reports.reading import StoredRun
from src.runs.overrides import flatten, is_below, relocate
from src.sweeps.names import NOT_OF_THE_JOB

NETWORK = "model.net._target_"
PLACES = ("output_dir", "log_dir", "data_dir", "root_dir")  # of `paths`, innermost first
NOT_SET = "not set"

Settings = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """A row of the tables: runs of one config, over seeds.

    Attributes:
        label: text that no other row has.
        network: class of the network.
        settings: values of the keys that differ between rows.
        named: values of the keys that the label is made of.
        runs: all runs, finished or not, in the order in which they were started.
    """

    label: str
    network: str
    settings: Settings
    named: Settings
    runs: tuple[StoredRun, ...]

    @cached_property
    def finished(self) -> dict[int, StoredRun]:
        """Finished runs by seed; of several with one seed, the one that was started last."""
        found = {run.seed: run for run in self.runs if run.status == "finished"}
        return dict(sorted(found.items()))


def group_runs(runs: Sequence[StoredRun], keys: Sequence[str] | None = None) -> list[Group]:
    """Group runs by their configs.

    The seed, keys whose last part is ``seed`` and that equal the seed in every run, and
    circumstances (`src.sweeps.names`) do not tell configs apart; a circumstance that is named
    in `keys` does.

    Args:
        runs: runs that have configs.
        keys: config keys that rows are named after; None: the network's class, typed keys, then
            others, as few as tell rows apart.

    Raises:
        UserError: when a key is in no config, or runs of one row would differ in another key.
    """
    flat = [_placeless(run) for run in runs]
    cells = [{key: _canonical(value) for key, value in entry.items()} for entry in flat]
    texts = pd.DataFrame(cells, dtype=object).fillna(NOT_SET)
    seeds = [k for k in texts if k.endswith(".seed") and texts[k].equals(texts.get("seed"))]
    texts = texts.drop(columns=["seed", *seeds], errors="ignore")
    for key in set(keys or ()) - set(texts):
        near = [name for name in sorted(texts) if name.endswith(f".{key}")]
        raise UserError(
            f"`--group-by` must name keys of the configs, other than the seed; got {key!r}. Use "
            f"{' or '.join(near) or 'a key in config.yaml of a run'}."
        )
    ignored = [k for k in texts if is_below(k, NOT_OF_THE_JOB) and not is_below(k, keys or ())]
    texts = texts.drop(columns=ignored)

    members: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, config in enumerate(texts.itertuples(index=False, name=None)):
        members[config].append(place)
    different = [key for key in texts if texts[key].nunique() > 1]
    named = keys
    if named is None:
        typed = {text.partition("=")[0].lstrip("+") for run in runs for text in run.overrides}
        named = []
        for key in sorted(different, key=lambda key: (key != NETWORK, key not in typed)):
            if not named or texts.groupby([*named, key]).ngroups > texts.groupby(named).ngroups:
                named.append(key)
    groups: list[Group] = []
    for places in members.values():
        config = flat[places[0]]
        values = {key: config.get(key, NOT_SET) for key in named}
        settings = {key: config[key] for key in different if key in config}
        network = str(config.get(NETWORK, "all runs")).rpartition(".")[2]
        label = label_of(values) or network
        same = next((group for group in groups if group.label == label), None)
        if same is not None and keys is not None:
            others = [k for k in different if same.settings.get(k) != settings.get(k)]
            raise UserError(
                "`--group-by` must tell all configs apart, so that nothing but the seed is "
                f"averaged over; got runs of {label!r} that differ in {', '.join(others[:5])}. "
                "Name one of these too, or leave --group-by out."
            )
        in_order = sorted((runs[p] for p in places), key=lambda r: r.environment.get("started", ""))
        label = _unused(label, [group.label for group in groups])
        groups.append(Group(label, network, settings, values, tuple(in_order)))

    return sorted(groups, key=lambda group: [_order(value) for value in group.named.values()])


def label_of(named: Settings) -> str:
    """Label of some keys and values: ``RelaxedGCNN, alpha=0.1``; empty of none."""
    words = []
    for (key, value), short in zip(named.items(), short_names(list(named))):
        text = as_text(value)
        words.append(text.rpartition(".")[2] if key.endswith("_target_") else f"{short}={text}")
    return ", ".join(words)


def short_names(keys: Sequence[str]) -> list[str]:
    """The shortest ends of the keys, all of one number of parts, that tell them apart."""
    tails = ([".".join(key.split(".")[-n:]) for key in keys] for n in count(1))
    return next(ends for ends in tails if len(set(ends)) == len(keys))


def swept_keys(groups: Sequence[Group]) -> dict[str, str]:
    """Keys that rows are named after and whose values are all numbers, with their short names."""
    keys = list(groups[0].named) if groups else []
    swept = {}
    for key, short in zip(keys, short_names(keys)):
        values = {group.named[key] for group in groups}
        if len(values) > 1 and all(map(_is_number, values)):
            swept[key] = short
    return swept


def lines_against(groups: Sequence[Group], key: str) -> dict[str, dict[float, Group]]:
    """Rows by their value of a swept key, for each combination of their other named keys.

    Returns:
        By label of the combination, one row per value.
    """
    lines: dict[str, dict[float, Group]] = defaultdict(dict)
    labels: dict[str, str] = {}
    for group in groups:
        others = {name: value for name, value in group.named.items() if name != key}
        config = _canonical(others)
        labels.setdefault(config, _unused(label_of(others) or group.network, labels.values()))
        lines[labels[config]][group.named[key]] = group
    return {label: dict(sorted(line.items())) for label, line in lines.items()}


def as_text(value: Any) -> str:
    """A config value as a reader writes it."""
    if isinstance(value, str):
        return value
    return repr(value) if isinstance(value, float) else json.dumps(value)


def _placeless(run: StoredRun) -> Settings:
    """The flat config, with names in place of the places on this disk."""
    value: Any = dict(run.config)
    for place in PLACES:
        if isinstance(path := dict(flatten(value)).get(f"paths.{place}"), str):
            value = relocate(value, path, f"<{place}>")
    return dict(flatten(value))


def _canonical(value: Any) -> str:
    """A text that is equal for equal values: 1 and 1.0 are, 1 and true are not."""
    with_floats = json.loads(json.dumps(value, default=str), parse_int=float)
    return json.dumps(with_floats, sort_keys=True)


def _unused(label: str, used: Iterable[str]) -> str:
    """The label, with a number where it is used: classes of one name in different modules."""
    number = sum(other == label or other.startswith(f"{label} (") for other in used)
    return f"{label} ({number + 1})" if number else label


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _order(value: Any) -> tuple[bool, Any]:
    """Numbers by size, then others by their text."""
    if _is_number(value):
        return False, value
    return True, as_text(value).rpartition(".")[2]
