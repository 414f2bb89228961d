"""Checks of arguments: errors name the argument, its rule, the value and a fix."""

import os
from pathlib import Path


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
