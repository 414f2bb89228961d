"""Checks of a sweep's command line, before its first job."""

from importlib.util import find_spec
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Glob, Override
from omegaconf import DictConfig, OmegaConf

from src.runs.config_checks import broken_rules
from src.runs.overrides import is_below
from src.sweeps.names import parsed

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
        if is_below(key, ["sweep"]) and override.is_sweep_override():
            problems.append(f"`{key}` must have one value in a sweep; got `{line}`. Choose one.")
        if override.is_sweep_override() and (repeated := _repeated(override)):
            problems.append(
                f"Jobs of a sweep must differ in their configs; got `{line}`, in which "
                f"{', '.join(map(str, repeated))} stands more than once. List each value once."
            )
    return problems


def sweep_problems(config: DictConfig) -> list[str]:
    """Everything that is wrong with a sweep's command line, one message each."""
    return [
        *_launcher_problems(config),
        *broken_rules(config, "sweep."),
        *_override_problems(config),
    ]
