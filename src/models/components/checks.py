"""Checks of arguments that layers and networks share."""

from typing import Any


def check_positive_int(name: str, value: Any, minimum: int = 1) -> None:
    """Raise unless ``value`` is an integer of at least ``minimum``.

    Raises:
        ValueError: names the argument, the rule, the value and a fix.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(
            f"`{name}` must be an integer of at least {minimum}; got {value!r}. Use {minimum} "
            "or more."
        )


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise unless ``value`` is one of ``choices``.

    Raises:
        ValueError: names the argument, the choices and the value.
    """
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}; got {value!r}.")
