"""Errors that are told to the user in one message instead of a traceback."""

import traceback
from pathlib import Path

from hydra.errors import CompactHydraException, InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException

SOURCE = Path(__file__).resolve().parent

# What this project raises when it was asked for something that cannot be.
EXPECTED = (ValueError, TypeError, OSError, RuntimeError, ImportError)


class UserError(CompactHydraException):
    """An error that its reader can mend: its message names the rule, the value and a fix.

    Hydra shows it without a traceback and ends with a non-zero exit status (of a multirun: after
    the remaining jobs). HYDRA_FULL_ERROR=1 shows the traceback too.
    """


def _raised_by_this_project(error: BaseException) -> bool:
    """Whether a `raise` of this project's own code made the error, not something it called."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not (frames[-1].line or "").startswith("raise "):
        return False
    return SOURCE in Path(frames[-1].filename).resolve().parents


def _instantiation_message(error: InstantiationException) -> str:
    """`<config key>: <what the constructor said>` of an object that could not be built."""
    text, _, key = str(error).rpartition("\nfull_key: ")
    text, key = (text, key.strip()) if text else (str(error), "")
    cause = error.__cause__
    if isinstance(cause, (*EXPECTED, ImportError, MisconfigurationException, UserError)):
        text = str(cause)
    return f"{key}: {text}" if key else text


def user_error(error: Exception) -> UserError | None:
    """The one message that stands for `error`, or None when only a traceback helps.

    Told in one message are: what the constructors of configured objects refuse, and what this
    project's own code raises as one of `EXPECTED`. Other errors are defects.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, InstantiationException):
        return UserError(_instantiation_message(error))
    if isinstance(error, EXPECTED) and _raised_by_this_project(error):
        return UserError(str(error))
    return None
