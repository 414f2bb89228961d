"""Checks of a sweep's command line, before its first job."""

from importlib.util import find_spec

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Glob
from omegaconf import DictConfig, OmegaConf

from src.sweeps.names import parsed
from src.sweeps.slurm import slurm_problems

# Launchers of Hydra that packages of their own bring: `hydra/launcher` option, package.
PLUGINS = {
    "joblib": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "submitit_slurm": "hydra_submitit_launcher",
    "ray": "hydra_ray_launcher",
}
MISSING = "not installed: "


def offer_missing_launchers() -> None:
    """Let configs name launchers that are not installed, so that a message can say what to do."""
    plugins = find_spec("hydra_plugins") is not None
    for launcher, package in PLUGINS.items():
        if not (plugins and find_spec(f"hydra_plugins.{package}")):
            node = {"_target_": f"{MISSING}{package}"}
            ConfigStore.instance().store(group="hydra/launcher", name=launcher, node=node)


def sweep_problems(config: DictConfig) -> list[str]:
    """Everything that is wrong with a sweep's command line, one message each."""
    from src.runs.config_checks import broken_rules  # needs torch, which --help does without

    problems = broken_rules(config, "sweep.")
    launcher = str(OmegaConf.select(config, "hydra.launcher._target_"))
    if launcher.startswith(MISSING):
        package = launcher.removeprefix(MISSING).replace("_", "-")
        problems.append(
            f"`launcher` must be one whose plugin is installed; got one that needs {package}. Run "
            '`pip install -e ".[sweep]"`, or use launcher=sequential.'
        )
    if launcher.endswith(".SlurmLauncher"):
        problems += slurm_problems(config.hydra.launcher)
    params = OmegaConf.select(config, "hydra.sweeper.params")
    for override in parsed(config.hydra.overrides.task, params):
        line = override.input_line
        if override.key_or_group == "resume" and override.value() is not None:
            problems.append(
                f"`resume` continues a single run; got `{line}` in a sweep. Leave out `-m` to "
                "continue that run. To continue a sweep, give its command again without "
                "`resume`: what is finished is skipped."
            )
        if override.is_discrete_sweep() and not isinstance(override.value(), Glob):
            values = list(override.sweep_string_iterator())
            if repeated := sorted({value for value in values if values.count(value) > 1}):
                problems.append(
                    f"Jobs of a sweep must differ in their configs; got `{line}`, in which "
                    f"{', '.join(repeated)} stands more than once. List each value once."
                )
    return problems
