"""Which runs are repetitions of one another: those whose configs differ in nothing but the seed."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

from src.errors import UserError
from src.reports.reading import StoredRun
from src.reports.settings import (
    NOT_SET,
    SEED,
    Settings,
    all_settings,
    as_text,
    canonical,
    differing_keys,
    num_distinct,
)
from src.runs.overrides import flatten

TARGET = "_target_"
NETWORK = f"model.net.{TARGET}"


@dataclass(frozen=True)
class Group:
    """A row of the tables: runs of one config, over seeds.

    Attributes:
        label: what tells it from the other rows.
        settings: its values of the keys that differ between rows.
        runs: all of them, finished or not, in the order in which they were started.
    """

    label: str
    settings: Settings
    runs: tuple[StoredRun, ...]

    @cached_property
    def finished(self) -> dict[int, StoredRun]:
        """Finished runs by seed; of several with one seed, the one that was started last."""
        found = {run.seed: run for run in self.runs if run.status == "finished"}
        return dict(sorted(found.items()))

    @property
    def repeated(self) -> list[StoredRun]:
        """Finished runs that are left out because a later one has the same seed."""
        kept = {run.directory for run in self.finished.values()}
        return [r for r in self.runs if r.status == "finished" and r.directory not in kept]

    @property
    def file_name(self) -> str:
        """The label as part of a file name."""
        return "".join(c if c.isalnum() or c in ".-=" else "_" for c in self.label)


def group_runs(runs: Sequence[StoredRun], keys: Sequence[str] | None = None) -> list[Group]:
    """Runs by their configs.

    The seed, keys whose last part is ``seed`` and that equal the seed in every run, and
    circumstances (`src.sweeps.names`) do not tell configs apart; a circumstance that is named
    in `keys` does.

    Args:
        runs: that have configs.
        keys: that rows are named after; None: as few of the differing ones as tell rows apart.

    Raises:
        UserError: when a key is in no config, or runs of one row would differ in another key.
    """
    if keys is not None:
        _check_keys(runs, keys)
    settings = all_settings(runs, kept=keys or ())
    by_config: dict[str, list[int]] = defaultdict(list)
    for place, entry in enumerate(settings):
        by_config[canonical(entry)].append(place)
    different = differing_keys(settings)
    firsts = [settings[places[0]] for places in by_config.values()]
    typed = {text.partition("=")[0].lstrip("+") for run in runs for text in run.overrides}
    named = keys if keys is not None else _naming_keys(firsts, different, typed)
    labels = [_label(first, named) for first in firsts]
    groups = [
        Group(
            label=_distinct(labels, place) if keys is None else labels[place],
            settings={key: first[key] for key in different if key in first},
            runs=tuple(sorted((runs[place] for place in places), key=_started)),
        )
        for place, (first, places) in enumerate(zip(firsts, by_config.values()))
    ]
    _check_labels(groups)
    return sorted(groups, key=lambda group: _sort_key(group.settings, named))


def _naming_keys(firsts: list[Settings], different: list[str], typed: set[str]) -> list[str]:
    """As few keys as tell rows apart: the network's class, typed ones, then the others."""
    order = sorted(different, key=lambda key: (key != NETWORK, key not in typed))
    chosen: list[str] = []
    for key in order:
        if num_distinct(firsts, [*chosen, key]) > num_distinct(firsts, chosen):
            chosen.append(key)
    return chosen


def _label(settings: Settings, keys: Sequence[str]) -> str:
    if not keys:
        return str(settings.get(NETWORK, "all runs")).rpartition(".")[2]
    words = []
    for key, short in zip(keys, _short(keys)):
        value = as_text(settings.get(key, NOT_SET))
        is_class = key.rpartition(".")[2] == TARGET
        words.append(value.rpartition(".")[2] if is_class else f"{short}={value}")
    return ", ".join(words)


def _distinct(labels: list[str], place: int) -> str:
    """A label with its number where an earlier one reads the same."""
    number = labels[: place + 1].count(labels[place])
    return labels[place] if number == 1 else f"{labels[place]} ({number})"


def _short(keys: Sequence[str]) -> list[str]:
    """The shortest ends of the keys that tell them apart."""
    parts = [key.split(".") for key in keys]
    for length in range(1, max(map(len, parts)) + 1):
        ends = [".".join(part[-length:]) for part in parts]
        if len(set(ends)) == len(keys):
            break
    return ends


def _started(run: StoredRun) -> tuple[str, str]:
    return run.environment.get("started", ""), str(run.directory)


def _sort_key(settings: Settings, keys: Sequence[str]) -> list[tuple[int, float, str]]:
    """Numbers by size, others by their text."""
    values = [settings.get(key, NOT_SET) for key in keys]
    return [
        (0, float(value), "")
        if isinstance(value, int | float) and not isinstance(value, bool)
        else (1, 0.0, as_text(value).rpartition(".")[2])
        for value in values
    ]


def _check_keys(runs: Sequence[StoredRun], keys: Sequence[str]) -> None:
    known = {key for run in runs for key, _ in flatten(run.config)} - {SEED}
    for key in keys:
        if key not in known:
            ends = [k for k in sorted(known) if k.endswith(f".{key}")]
            near = ends or get_close_matches(key, sorted(known), n=3, cutoff=0.5)
            advice = f"Use {' or '.join(near)}." if near else "See config.yaml of a run."
            raise UserError(
                "`--group-by` must name keys of the configs, other than the seed; "
                f"got {key!r}. {advice}"
            )


def _check_labels(groups: list[Group]) -> None:
    by_label = defaultdict(list)
    for group in groups:
        by_label[group.label].append(group)
    for label, same in by_label.items():
        if len(same) > 1:
            others = differing_keys([group.settings for group in same])
            raise UserError(
                "`--group-by` must tell all configs apart, so that nothing but the seed is "
                f"averaged over; got runs of {label!r} that differ in {', '.join(others[:5])}. "
                "Name one of these too, or leave --group-by out."
            )
