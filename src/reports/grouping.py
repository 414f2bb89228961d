"""Studies and their rows: runs of one task on one data set, and runs that differ in the seed."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from src.errors import UserError
from src.reports.naming import (
    NETWORK,
    NOT_SET,
    Settings,
    as_text,
    canonical,
    is_number,
    label_of,
    unused,
)
from src.reports.reading import StoredRun
from src.runs.overrides import flatten, is_below, relocate
from src.sweeps.names import NOT_OF_THE_JOB

PLACES = ("output_dir", "log_dir", "data_dir", "root_dir")  # of `paths`, innermost first
OF_A_STUDY = ("data._target_", "model._target_")  # runs that differ in these share no metrics
MOST_NAMED = 6  # keys in a label


@dataclass(frozen=True)
class Group:
    """A row of the tables: runs of one config, over seeds.

    Attributes:
        label: text that no other row has.
        network: class of the network.
        config: flat config, without the seed and circumstances.
        named: values of the keys that the label is made of.
        choices: values of the keys that were chosen one by one: those that rows are to be named
            after, or else those that differ, less those that follow others, such as the preset of a
            network.
        runs: all runs, finished or not, in the order in which they were started.
    """

    label: str
    network: str
    config: Settings
    named: Settings
    choices: Settings
    runs: tuple[StoredRun, ...]

    @cached_property
    def finished(self) -> dict[int, StoredRun]:
        """Finished runs by seed; of several with one seed, the one that was started last."""
        found = {run.seed: run for run in self.runs if run.status == "finished"}
        return dict(sorted(found.items()))


def split_studies(runs: Sequence[StoredRun]) -> dict[str, list[StoredRun]]:
    """Runs by what they have in common: data set and task, as classes."""
    found: dict[tuple[str, str], list[StoredRun]] = defaultdict(list)
    for run in runs:
        flat = dict(flatten(run.config))
        data, model = (str(flat.get(key, NOT_SET)) for key in OF_A_STUDY)
        found[data, model].append(run)
    titles: list[str] = []
    for data, model in sorted(found):
        alone = sum(other == data for other, _ in found) == 1
        names = [name.rpartition(".")[2] for name in ((data,) if alone else (data, model))]
        titles.append(unused(", ".join(names), titles))
    return dict(zip(titles, (found[classes] for classes in sorted(found))))


def group_runs(runs: Sequence[StoredRun], keys: Sequence[str] | None = None) -> list[Group]:
    """Group runs by their configs.

    The seed, keys whose last part is ``seed`` and that equal the seed in every run, and
    circumstances (`src.sweeps.names`) do not tell configs apart; a circumstance that is named
    in `keys` does.

    Args:
        runs: runs that have configs.
        keys: config keys that rows are named after; None: the network's class, typed keys, then
            all others that differ and do not follow one of these.

    Raises:
        UserError: when runs of one row would differ in another key.
    """
    configs, texts = _configs(runs, keys or ())
    different = [key for key in texts if texts[key].nunique() > 1]
    typed = {text.partition("=")[0].lstrip("+") for run in runs for text in run.overrides}
    leading = sorted(different, key=lambda key: (key != NETWORK, key not in typed))
    own = _independent(texts, leading, typed)
    chosen = [k for k in own if k in (NETWORK, *typed) or not _follows(texts, k, NETWORK)]
    named, chosen = (keys, keys) if keys else (_named(texts, own), chosen)

    members: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, row in enumerate(texts.itertuples(index=False, name=None)):
        members[row].append(place)
    groups: list[Group] = []
    for places in members.values():
        config = configs[places[0]]
        values, choices = ({k: config.get(k, NOT_SET) for k in names} for names in (named, chosen))
        network = str(config.get(NETWORK, "all runs")).rpartition(".")[2]
        label = label_of(values) or network
        same = next((group for group in groups if group.label == label), None)
        if same is not None and keys is not None:
            others = [k for k in different if same.config.get(k) != config.get(k)]
            raise UserError(
                "`--group-by` must tell all configs apart, so that nothing but the seed is "
                f"averaged over; got runs of {label!r} that differ in {', '.join(others[:5])}. "
                "Name one of these too, or leave --group-by out."
            )
        in_order = sorted((runs[p] for p in places), key=lambda r: r.environment.get("started", ""))
        label = unused(label, [group.label for group in groups])
        groups.append(Group(label, network, config, values, choices, tuple(in_order)))
    return sorted(groups, key=lambda group: [_order(value) for value in group.named.values()])


def check_keys(runs: Sequence[StoredRun], keys: Sequence[str], option: str) -> None:
    """Raise UserError for the first key that is in no config, or follows the seed."""
    _, texts = _configs(runs, keys)
    for key in keys:
        if key not in texts:
            near = [name for name in sorted(texts) if name.endswith(f".{key}")]
            raise UserError(
                f"`{option}` must name keys of the configs, other than the seed; got {key!r}. Use "
                f"{' or '.join(near) or 'a key in config.yaml of a run'}."
            )


def differing_keys(groups: Sequence[Group]) -> list[str]:
    """Keys whose values are not the same in all rows, in the order of the configs."""
    keys = dict.fromkeys(key for group in groups for key in group.config)
    values = {k: {canonical(g.config[k]) if k in g.config else "" for g in groups} for k in keys}
    return [key for key in keys if len(values[key]) > 1]


def _configs(runs: Sequence[StoredRun], kept: Sequence[str]) -> tuple[list[Settings], pd.DataFrame]:
    """Flat configs without the seed and circumstances, and the same as a table of texts."""
    flat = [_placeless(run) for run in runs]
    cells = [{key: canonical(value) for key, value in entry.items()} for entry in flat]
    texts = pd.DataFrame(cells, dtype=object).fillna(NOT_SET)
    seeds = [k for k in texts if k.endswith(".seed") and texts[k].equals(texts.get("seed"))]
    ignored = [k for k in texts if is_below(k, NOT_OF_THE_JOB) and not is_below(k, kept)]
    texts = texts.drop(columns=["seed", *seeds, *ignored], errors="ignore")
    return [{k: v for k, v in entry.items() if k in texts} for entry in flat], texts


def _independent(texts: pd.DataFrame, keys: Sequence[str], typed: set[str]) -> list[str]:
    """Keys less those that follow another one: in both, equal values go with equal values.

    A key that was typed follows none. Others follow the class of the object that they belong to,
    a typed key, a key of the same part of the config, or one that always has the same value.
    """
    found: list[str] = []
    for key in keys:
        leaders = [
            other
            for other in found
            if key not in typed
            and (
                (other in typed and other != NETWORK)
                or _part(other) == _part(key)
                or (other.endswith("_target_") and is_below(key, [other.rpartition(".")[0]]))
                or texts[other].equals(texts[key])
            )
        ]
        if not any(_follows(texts, key, other) for other in leaders):
            found.append(key)
    return found


def _part(key: str) -> str:
    """``model.optimizer`` of keys below it, ``data`` of keys of the data."""
    parts = key.split(".")
    return ".".join(parts[: 2 if parts[0] == "model" else 1])


def _follows(texts: pd.DataFrame, key: str, leader: str) -> bool:
    """Whether the value of the leader says that of the key."""
    return leader in texts and bool((texts.groupby(leader)[key].nunique() == 1).all())


def _named(texts: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """The keys of a label: all, or of too many as few as tell rows apart."""
    if len(keys) <= MOST_NAMED:
        return list(keys)
    named: list[str] = []
    for key in keys:
        if not named or texts.groupby([*named, key]).ngroups > texts.groupby(named).ngroups:
            named.append(key)
    return named


def _placeless(run: StoredRun) -> Settings:
    """The flat config, with names in place of the places on this disk."""
    value: Any = dict(run.config)
    for place in PLACES:
        if isinstance(path := dict(flatten(value)).get(f"paths.{place}"), str):
            value = relocate(value, path, f"<{place}>")
    return dict(flatten(value))


def _order(value: Any) -> tuple[bool, Any]:
    """Numbers by size, then others by their text."""
    if is_number(value):
        return False, value
    return True, as_text(value).rpartition(".")[2]
