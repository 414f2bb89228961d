"""Names that configs may use inside `${...}`; imported before anything heavy."""

import os
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

RUN_CONFIG = "config.yaml"


def is_run_directory(path: str | Path) -> bool:
    """Whether a run was started in this directory: it holds the run's resolved config."""
    return (Path(path) / RUN_CONFIG).is_file()


def run_dir(resume: str | None, base: str) -> str:
    """Directory of a run: the resumed one, or a new one below `base`.

    A new one is named by the time to the microsecond, so that runs started in the same second do
    not share a directory. A `resume` that is no run directory is left to the config checks.
    """
    if resume is not None and is_run_directory(resume):
        return os.path.abspath(resume)
    return os.path.join(base, datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f"))


def sweep_subdir(resume: str | None, job: int) -> str:
    """Directory of one job of a multirun: its number, or the directory that it resumes."""
    if resume is not None and is_run_directory(resume):
        return os.path.abspath(resume)
    return str(job)


def register_resolvers() -> None:
    """Make `${run_dir:resume,base}` and `${sweep_subdir:resume,job}` known to configs.

    Cached, because a run asks for its directory more than once.
    """
    for resolver in (run_dir, sweep_subdir):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, use_cache=True, replace=True)
