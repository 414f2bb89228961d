"""Calls that may hang, waited for no longer than some time."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


def within(seconds: float, action: Callable[[], Any]) -> Any:
    """What `action` returns or raises; one that takes longer is left to a daemon thread.

    Raises:
        TimeoutError: when it takes longer.
    """
    outcome: Future[Any] = Future()

    def attempt() -> None:
        try:
            outcome.set_result(action())
        except Exception as error:  # noqa: BLE001 -- raised where it is waited for
            outcome.set_exception(error)

    threading.Thread(target=attempt, daemon=True).start()
    return outcome.result(seconds)


def done_within(seconds: float, action: Callable[[], Any]) -> bool:
    """Whether `action` succeeded in time; why not goes into the log file."""
    try:
        within(seconds, action)
    except Exception:
        logging.getLogger("file_only").exception("W&B failed.")
        return False
    return True
