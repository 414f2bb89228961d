"""Checks of a sweep's command line, before its first job."""

import re
from importlib.util import find_spec
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Glob, Override
from omegaconf import DictConfig, OmegaConf

from src.utils.sweep_names import SWEEP_KEYS, parsed

# Launchers of Hydra that packages of their own bring: `hydra/launcher` option, package.
PLUGINS = {
    "joblib": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "submitit_slurm": "hydra_submitit_launcher",
    "ray": "hydra_ray_launcher",
}
MISSING = "not installed: "


def _is_installed(package: str) -> bool:
    return find_spec("hydra_plugins") is not None and bool(find_spec(f"hydra_plugins.{package}"))


def offer_missing_launchers() -> None:
    """Let configs name launchers that are not installed, so that a message can say what to do."""
    for launcher, package in PLUGINS.items():
        if not _is_installed(package):
            node = {"_target_": f"{MISSING}{package}"}
            ConfigStore.instance().store(group="hydra/launcher", name=launcher, node=node)


def key_problems(config: DictConfig) -> list[str]:
    """What is wrong with the values of `sweep_name`, `rerun`, `fail_fast`, `spread_jobs`."""
    problems = []
    for key in SWEEP_KEYS[1:]:
        value = OmegaConf.select(config, key, default=False)
        if not isinstance(value, bool):
            problems.append(f"`{key}` must be true or false; got {value!r}. Use {key}=true.")
    name = OmegaConf.select(config, "sweep_name")
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", str(name)):
        problems.append(
            "`sweep_name` must be the name of a folder, of letters, digits, dots, dashes and "
            f"underscores; got {name!r}. Use sweep_name=pilot_1, or leave it out."
        )
    return problems


def _launcher_problems(config: DictConfig) -> list[str]:
    target = str(OmegaConf.select(config, "hydra.launcher._target_"))
    if not target.startswith(MISSING):
        return []
    package = target.removeprefix(MISSING).replace("_", "-")
    return [
        f"`launcher` must be one whose plugin is installed; got one that needs {package}. Run "
        '`pip install -e ".[sweep]"`, or use launcher=sequential.'
    ]


def _repeated(override: Override) -> list[Any]:
    """Values that a sweep over listed values has more than once."""
    if not override.is_discrete_sweep() or isinstance(override.value(), Glob):
        return []
    values = list(override.sweep_string_iterator())
    return sorted({value for value in values if values.count(value) > 1})


def _override_problems(config: DictConfig) -> list[str]:
    problems = []
    params = OmegaConf.select(config, "hydra.sweeper.params")
    for override in parsed(config.hydra.overrides.task, params):
        key, line = override.key_or_group, override.input_line
        if key == "resume" and override.value() is not None:
            problems.append(
                f"`resume` continues a single run; got `{line}` in a sweep. Leave out `-m` to "
                "continue that run. To continue a sweep, give its command again without "
                "`resume`: what is finished is skipped."
            )
        if key in SWEEP_KEYS and override.is_sweep_override():
            problems.append(f"`{key}` must have one value in a sweep; got `{line}`. Choose one.")
        if override.is_sweep_override() and (repeated := _repeated(override)):
            problems.append(
                f"Jobs of a sweep must differ in their configs; got `{line}`, in which "
                f"{', '.join(map(str, repeated))} stands more than once. List each value once."
            )
    return problems


def sweep_problems(config: DictConfig) -> list[str]:
    """Everything that is wrong with a sweep's command line, one message each."""
    return [*_launcher_problems(config), *key_problems(config), *_override_problems(config)]
