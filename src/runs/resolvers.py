"""Names that configs may use inside `${...}`; imported before anything heavy."""

import os
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

from src.files import RUN_CONFIG


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


def register_resolvers() -> None:
    """Make `run_dir` known to configs. It is cached: a run asks for its directory repeatedly."""
    OmegaConf.register_new_resolver("run_dir", run_dir, use_cache=True, replace=True)
