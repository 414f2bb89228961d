"""Checks of arguments: errors name the argument, its rule, the value and a fix."""

import math
import os
from pathlib import Path
from typing import Any


def wrong(name: str, rule: str, value: object, fix: str) -> str:
    """Message about an argument: its rule, the value that breaks it, and a fix."""
    return f"`{name}` must be {rule}; got {value!r}. Use {fix}."


def check_integer(name: str, value: object, minimum: int = 1) -> None:
    """Raise unless ``value`` is an integer of at least ``minimum``.

    Raises:
        ValueError: names the argument, the rule, the value and a fix.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        rule = f"an integer of at least {minimum}"
        raise ValueError(wrong(name, rule, value, f"{minimum} or more"))


def check_number(
    name: str, value: object, minimum: float, maximum: float = math.inf, fix: str = "0.5"
) -> None:
    """Raise unless ``value`` is a finite number from ``minimum`` to ``maximum``.

    Raises:
        ValueError: names the argument, the rule, the value and a fix.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and minimum <= value <= maximum:
        return
    rule = "a finite number"
    if math.isfinite(minimum):
        rule = f"a number of at least {minimum:g}"
        if math.isfinite(maximum):
            rule = f"a number from {minimum:g} to {maximum:g}"
    raise ValueError(wrong(name, rule, value, fix))


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise unless ``value`` is one of ``choices``.

    Raises:
        ValueError: names the argument, the choices and the value.
    """
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}; got {value!r}.")


def checked_folder(value: object) -> Path:
    """``value`` as the path of a folder, which need not exist yet.

    Raises:
        ValueError: if it is no path, or the path of a file.
    """
    folder = Path(value).expanduser() if isinstance(value, str | os.PathLike) else None
    if folder is None or (folder.exists() and not folder.is_dir()):
        raise ValueError(wrong("data_dir", "the path of a folder", value, "paths.data_dir=data"))
    return folder


def check_shape(
    owner: object, x: Any, expected: tuple[str | int, ...], meaning: str, fix: str
) -> None:
    """Raise unless an input has the expected sizes.

    Args:
        owner: layer or network that the message names.
        x: input, a tensor.
        expected: sizes; a string names one that may be anything.
        meaning: what the sizes mean, in brackets.
        fix: what to change.

    Raises:
        ValueError: names the owner, the expected shape, that of the input and the fix.
    """
    sizes = zip(expected, x.shape)
    if len(x.shape) != len(expected) or any(isinstance(e, int) and e != s for e, s in sizes):
        shape = ", ".join(map(str, expected))
        raise ValueError(
            f"input of {type(owner).__name__} must have the shape [{shape}] ({meaning}); "
            f"got {list(x.shape)}. {fix}"
        )
