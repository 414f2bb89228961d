"""Names that configs may use inside `${...}`; imported before anything heavy."""

import os
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

from src.utils.sweep_names import job_folder, sweep_folder, swept_keys

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


def register_resolvers() -> None:
    """Make the resolvers known to configs.

    All but `job_folder` are cached: a run asks for its directory more than once, and the jobs of
    a sweep take over what was evaluated where the sweep was started.
    """
    for resolver in (run_dir, sweep_folder, swept_keys):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
