"""Errors that the user sees as one message instead of a traceback."""

import errno
import traceback
from pathlib import Path

from hydra.errors import CompactHydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

SOURCE = Path(__file__).resolve().parent

# What this project raises when it was asked for something that cannot be.
EXPECTED = (ValueError, TypeError, OSError, RuntimeError, ImportError)

# What a system refuses, whatever a program does, and what its user can do about it.
REFUSED = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), ""),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Make room there, or: "),
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f unlimited), or: ",
}
# Functions in which every error of the system is one of the path that they were given.
MAKING = ("mkdir", "makedirs", "check_writable")
# Keys whose values are paths.
PATHS = (
    "paths.log_dir",
    "paths.data_dir",
    "search.dir",
    "ckpt_path",
    "resume",
    "output_dir",
    "out",
)


class UserError(CompactHydraException):
    """An error that its reader can mend: its message names the rule, the value and a fix.

    Hydra shows it without a traceback and ends with a non-zero exit status (of a multirun: after
    the remaining jobs). HYDRA_FULL_ERROR=1 shows the traceback too.
    """


def unwrapped(error: Exception) -> Exception:
    """The error that what a config asked for raised, in place of OmegaConf's about it."""
    while isinstance(error, InterpolationResolutionError) and error.__context__ is not None:
        error = error.__context__
    return error


def user_error(error: Exception, config: DictConfig | None = None) -> UserError | None:
    """The one message that stands for `error`, or None when only a traceback helps.

    Such messages are for what the constructors of configured objects refuse, after the object's
    key in the config, for what a `raise` in this project's own code raises as one of `EXPECTED`,
    for what Lightning takes for a mistake in its settings, and for files that the system refuses,
    with the key of `config` that names the place. Other errors are defects.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # takes seconds

    error = unwrapped(error)
    if isinstance(error, UserError):
        return error
    if isinstance(error, MisconfigurationException):
        return UserError(str(error))
    if isinstance(error, InstantiationException):
        text, _, key = str(error).rpartition("\nfull_key: ")
        text, key = (text, key.strip()) if text else (str(error), "")
        if isinstance(error.__cause__, (*EXPECTED, MisconfigurationException, UserError)):
            text = str(error.__cause__)
        return UserError(f"{key}: {text}" if key else text)
    frames = traceback.extract_tb(error.__traceback__)
    making = bool(frames) and frames[-1].name in MAKING
    if isinstance(error, OSError) and error.filename and (making or error.errno in REFUSED):
        return _refused_file(error, config)
    raised = bool(frames) and (frames[-1].line or "").startswith("raise ")
    if (
        isinstance(error, EXPECTED)
        and raised
        and SOURCE in Path(frames[-1].filename).resolve().parents
    ):
        return UserError(str(error))
    return None


def _refused_file(error: OSError, config: DictConfig | None) -> UserError:
    """Which file the system refuses, why, below which key of the config, and what to do."""
    path, places = Path(str(error.filename)).absolute(), {}
    for key in PATHS if config is not None else ():
        value = OmegaConf.select(config, key, throw_on_missing=False)
        if value is not None:
            place = Path(str(value)).absolute()
            places[key] = place.parent if key == "out" or place.is_file() else place
    found = [key for key, place in places.items() if place in (path, *path.parents)]
    key = max(found, key=lambda key: len(places[key].parts), default=None)
    text = f"A file or folder could not be made or written: {path} ({error.strerror})"
    # What belongs to a checkpoint may lie elsewhere than beside it.
    changed = key if key != "ckpt_path" else "out" if "out" in config else "output_dir"
    fix = f"Use {f'{changed}=<a place>' if changed else 'a place'} that you may write to."
    if key == "resume":
        fix = "Copy the run to a folder that you may write to, and resume the copy."
    at = f", at `{key}`={OmegaConf.select(config, key)}" if key else ""
    return UserError(f"{text}{at}. {REFUSED.get(error.errno, '')}{fix}")
