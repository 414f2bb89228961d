"""Rows against a number that was swept, and pairs of rows that one choice tells apart."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from src.errors import UserError
from src.reports.grouping import Group
from src.reports.naming import (
    NETWORK,
    Settings,
    canonical,
    is_number,
    label_of,
    short_names,
    unused,
)
from src.runs.overrides import is_below

# Keys of the data that do not change the test.
OF_TRAINING = ("data.augment", "data.batch_size", "data.starts.train", "data.train_horizon")
MOST_LINES = 16  # that are all drawn


class Line(NamedTuple):
    """Rows that differ in nothing but a number, and what goes along with it.

    Attributes:
        label: the other keys, as text that no other line has.
        network: class of the network.
        variant: the other keys but the network.
        rows: by the number, in its order.
    """

    label: str
    network: str
    variant: str
    rows: dict[float, Group]


def variant(group: Group, without: Sequence[str] = ()) -> str:
    """What tells a row from others of its network."""
    return label_of({k: v for k, v in group.named.items() if k not in (NETWORK, *without)})


def data_of(group: Group) -> Settings:
    """The settings of the data among those that rows are named after, but not of training alone."""
    return {key: value for key, value in group.named.items() if is_of_data(key)}


def is_of_data(key: str) -> bool:
    """Whether a key may change the data on which a network is tested."""
    return key.startswith("data.") and not is_below(key, OF_TRAINING)


def by_data(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Rows by the settings of their data, as text."""
    found: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        found[label_of(data_of(group))].append(group)
    return dict(found)


def swept_keys(groups: Sequence[Group], asked: Sequence[str] | None = None) -> dict[str, str]:
    """Keys with at least two numbers that rows are drawn against, with their short names.

    Of those in `asked`; None: of those that rows are named after, where a line has two numbers.
    """
    named = groups[0].named if groups else ()
    keys = [key for key in (named if asked is None else asked) if _numbers(groups, key) > 1]
    if asked is None:
        keys = [k for k in keys if any(len(line.rows) > 1 for line in lines_against(groups, k))]
    return dict(zip(keys, short_names(keys))) if keys else {}


def check_swept(groups: Sequence[Group], asked: Sequence[str] | None) -> None:
    """Raise UserError for a key that was asked for and has fewer than two numbers."""
    for key in asked or ():
        if _numbers(groups, key) < 2:
            raise UserError(
                "`--x` must name a key with at least two numbers in the configs; got "
                f"{key!r} with {_numbers(groups, key)}. Use e.g. data.num_train of a sweep over it."
            )


def lines_against(groups: Sequence[Group], key: str) -> list[Line]:
    """Rows by their number at a key, for each combination of their other named keys.

    Values that go along with the number, such as one of epochs with one of images, do not split a
    line. Rows without a number at the key are on no line, and of too many lines those with a
    single number are left out.
    """
    numbered = [group for group in groups if is_number(group.config.get(key))]
    along = (key, *going_along(numbered, key))
    rows: dict[str, dict[float, Group]] = defaultdict(dict)
    for group in numbered:
        others = canonical({k: v for k, v in group.named.items() if k not in along})
        rows[others][group.config[key]] = group
    found = list(rows.values())
    if len(found) > MOST_LINES:
        found = [row for row in found if len(row) > 1] or found
    firsts = [next(iter(row.values())) for row in found]
    values = {
        k: {canonical(f.named[k]) for f in firsts} for k in (firsts[0].named if firsts else ())
    }
    same = [k for k in values if len(values[k]) == 1 and k != NETWORK]
    lines: list[Line] = []
    for first, row in zip(firsts, found):
        others = {k: v for k, v in first.named.items() if k not in (*along, *same)}
        label = unused(label_of(others) or first.network, [line.label for line in lines])
        text = variant(first, (*along, *same))
        lines.append(Line(label, first.network, text, dict(sorted(row.items()))))
    return lines


def going_along(groups: Sequence[Group], key: str) -> list[str]:
    """Named keys but the network that have one value for each number at the key, and as many."""
    found, numbers = [], _numbers(groups, key)
    for other in groups[0].named if groups else ():
        values = [canonical(group.named[other]) for group in groups]
        both = {(group.config.get(key), value) for group, value in zip(groups, values)}
        if other not in (key, NETWORK) and len(set(values)) == len(both) == numbers > 1:
            found.append(other)
    return found


def pairs(groups: Sequence[Group], baseline: Group | None) -> Iterator[tuple[Group, Group]]:
    """Rows and what is subtracted from each: rows that differ from it in one choice alone.

    That is `baseline`, or for each choice the first row with the same other choices.
    """
    if baseline is not None:
        for group in groups:
            if group is not baseline and sum(_different(group, baseline).values()) == 1:
                yield group, baseline
        return
    for key in groups[0].choices if groups else ():
        first: dict[str, Group] = {}
        for group in groups:
            others = canonical({k: v for k, v in group.choices.items() if k != key})
            reference = first.setdefault(others, group)
            if reference is not group and sum(_different(group, reference).values()) == 1:
                yield group, reference


def _different(one: Group, other: Group) -> dict[str, bool]:
    return {k: canonical(v) != canonical(other.choices[k]) for k, v in one.choices.items()}


def _numbers(groups: Sequence[Group], key: str) -> int:
    return len({v for group in groups if is_number(v := group.config.get(key))})
