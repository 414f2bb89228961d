"""What every script does before anything else, so that it starts and ends without a traceback."""

import gc
import getpass
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

INTERRUPTED = 130  # exit status of shells after Ctrl-C

# Keys, and options of groups, of earlier versions (patterns), and what stands for them now.
RENAMED = {
    "sweep_name": "sweep.name",
    "(rerun|fail_fast|spread_jobs)": r"sweep.\1",
    r"measure\.(\w+)\.only": r"measure.\1.checkpoint",
    "again": "overwrite",
    "out": "output_dir",
    "trainer=fsdp": "trainer=ddp",
    "format=torch": "format=pt2",
    "data.rotate=none": "data.max_angle=0",
    "experiment=(cnn|e2cnn|gcnn|rsteer|rtrans)_smoke_rotation": (
        r"experiment=rgcnn_smoke_rotation model=\1_smoke_paper"
    ),
}


def entry_point(main: Callable[..., Any]) -> Callable[..., Any]:
    """Prepare the process, refuse names of `RENAMED`, and end with one line after Ctrl-C.

    To stand above `hydra.main`, which would only say that it does not know a key.
    """

    @wraps(main)
    def run(*arguments: Any) -> Any:
        show_any_text()
        name_user()
        logging.raiseExceptions = False  # a full disk costs lines of the log, and shows nothing
        # What torch and Lightning define lives as long as the process: looking through it for
        # garbage every 700 objects would make their import a quarter slower.
        gc.set_threshold(100_000)
        if messages := renamed(sys.argv):
            sys.exit("\n".join(messages))
        try:
            return main(*arguments)
        except KeyboardInterrupt:  # `open_run` has one of a run under way
            sys.stderr.write("Interrupted before anything was done.\n")
            sys.exit(INTERRUPTED)
        except BrokenPipeError:  # as in `--help | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    return run


def renamed(typed: list[str]) -> list[str]:
    """A message for each name of an earlier version in a command line."""
    names = []
    for override in typed[1:]:
        key, _, value = override.lstrip("+~").partition("=")
        if key == "out" and Path(typed[0]).stem in ("export", "predict"):
            continue  # its file
        names += [key, *(f"{key}={option}" for option in re.findall(r"\w+", value))]
    return [
        f"`{name}` is of an earlier version. Use `{match.expand(new)}`."
        for name in names
        for old, new in RENAMED.items()
        if (match := re.fullmatch(old, name))
    ]


def show_any_text() -> None:
    """Let the console show `?` for what its encoding lacks, which would be an error else."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def name_user() -> None:
    """Give a user whom the system does not know, as in containers, a name and a home."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = str(os.getuid())
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()
