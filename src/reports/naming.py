"""Names of rows, of keys and of files: short, and never two alike."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

Settings = dict[str, Any]  # of a flat config: values by dotted key

NETWORK = "model.net._target_"
NOT_SET = "not set"
LONGEST_VALUE, LONGEST_STEM = 40, 80  # characters


def label_of(named: Mapping[str, Any]) -> str:
    """Label of some keys and values: ``RelaxedGCNN, alpha=0.1``; empty of none.

    What a network or its training does not have is left out.
    """
    words = []
    for (key, value), short in zip(named.items(), short_names(list(named))):
        text = as_text(value)
        if text == NOT_SET and key.startswith("model."):
            continue
        if key.endswith("_target_"):
            text = text.rpartition(".")[2]
            owner = key.split(".")[-2] if "." in key else key
            words.append(text if key == NETWORK else f"{owner}={text}")
        else:
            cut = text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
            words.append(f"{short}={cut}")
    return ", ".join(words)


def short_names(keys: list[str]) -> list[str]:
    """The shortest ends of the keys, all of one number of parts, that tell them apart."""
    tails = ([".".join(key.split(".")[-n:]) for key in keys] for n in count(1))
    return next(ends for ends in tails if len(set(ends)) == len(keys))


def unused(name: str, used: Iterable[str]) -> str:
    """The name, with a number where it is used: classes of one name in different modules."""
    number = sum(other == name or other.startswith(f"{name} (") for other in used)
    return f"{name} ({number + 1})" if number else name


def file_stem(text: str) -> str:
    """The text as the name of a file: letters, digits and ``.-=_``, with a hash where it is cut."""
    stem = re.sub(r"[^A-Za-z0-9.=-]+", "_", text).strip("_")
    if len(stem) <= LONGEST_STEM:
        return stem
    return f"{stem[: LONGEST_STEM - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def as_text(value: Any) -> str:
    """A config value as a reader writes it."""
    if isinstance(value, str):
        return value
    return repr(value) if isinstance(value, float) else json.dumps(value, default=str)


def canonical(value: Any) -> str:
    """A text that is equal for equal values: 1 and 1.0 are, 1 and true are not."""
    with_floats = json.loads(json.dumps(value, default=str), parse_int=float)
    return json.dumps(with_floats, sort_keys=True)


def is_number(value: Any) -> bool:
    """Whether a config value is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
