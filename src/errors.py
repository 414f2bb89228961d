"""Errors that the user sees as one message instead of a traceback."""

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


def user_error(error: Exception) -> UserError | None:
    """The one message that stands for `error`, or None when only a traceback helps.

    Such messages are for what the constructors of configured objects refuse, after the object's
    key in the config, and for what a `raise` in this project's own code raises as one of
    `EXPECTED`. Other errors are defects.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, InstantiationException):
        text, _, key = str(error).rpartition("\nfull_key: ")
        text, key = (text, key.strip()) if text else (str(error), "")
        if isinstance(error.__cause__, (*EXPECTED, MisconfigurationException, UserError)):
            text = str(error.__cause__)
        return UserError(f"{key}: {text}" if key else text)
    frames = traceback.extract_tb(error.__traceback__)
    raised = bool(frames) and (frames[-1].line or "").startswith("raise ")
    if (
        isinstance(error, EXPECTED)
        and raised
        and SOURCE in Path(frames[-1].filename).resolve().parents
    ):
        return UserError(str(error))
    return None
