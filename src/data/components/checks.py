"""Checks of options that data modules share."""

import os
from pathlib import Path


def wrong(name: str, rule: str, value: object, fix: str) -> str:
    """The message about an option: its rule, the value that breaks it, and a fix."""
    return f"`{name}` must be {rule}; got {value!r}. Use {fix}."


def check_integer(name: str, value: object, minimum: int, example: int) -> None:
    """Raise unless ``value`` is an integer of at least ``minimum``.

    Raises:
        TypeError, ValueError: naming the option, the rule, the value and a fix.
    """
    message = wrong(name, f"an integer of at least {minimum}", value, f"data.{name}={example}")
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(message)
    if value < minimum:
        raise ValueError(message)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise unless ``value`` is one of the names in ``choices``.

    Raises:
        TypeError, ValueError: naming the option, the choices, the value and a fix.
    """
    message = wrong(name, f"one of {', '.join(choices)}", value, f"data.{name}={choices[0]}")
    if not isinstance(value, str):
        raise TypeError(message)
    if value not in choices:
        raise ValueError(message)


def checked_folder(value: object) -> Path:
    """``value`` as the path of a folder, which need not exist yet.

    Raises:
        TypeError, ValueError: if it is no path, or that of a file.
    """
    message = wrong("data_dir", "the path of a folder", value, "paths.data_dir=data")
    if not isinstance(value, str | os.PathLike):
        raise TypeError(message)
    folder = Path(value).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError(message)
    return folder
