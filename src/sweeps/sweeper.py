"""Hydra's own sweeper, which hands its launcher what is not finished, and tells what was killed."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins import basic_sweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict

from src.errors import UserError
from src.runs.entry_points import INTERRUPTED
from src.runs.overrides import parse_overrides
from src.sweeps.devices import available_cores, jobs_at_once
from src.sweeps.launching import nothing_returned, run_jobs, submitted_to_slurm
from src.sweeps.records import Job, record_plan, records_folder, write_report

log = logging.getLogger(__name__)

Plugins.instance()  # looking for plugins, Hydra defines its own anew: before one is extended


class Sweeper(basic_sweeper.BasicSweeper):
    """Leaves finished jobs out before they are submitted.

    A job whose process is killed, under whichever launcher, is a failed one: the others go on.
    """

    __module__ = "hydra_plugins._relaxed_symmetry"  # Hydra takes plugins from there alone

    def setup(self, **arguments: Any) -> None:
        """Put `Remaining` in front of the launcher that the config names."""
        super().setup(**arguments)
        if type(self.launcher).__name__ == "LocalLauncher":
            self.max_batch_size = None  # so many run at once, and a batch would wait for its last
        self.launcher = Remaining(self.launcher, self.hydra_context.config_loader, self.config)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: `Remaining` composes the configs, and not each of them anew."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run all jobs; after Ctrl-C or a signal, say what is done and what is not."""
        try:
            return super().sweep(arguments)
        except (KeyboardInterrupt, SystemExit) as ended:
            words = ["Interrupted.", write_report(self.config), self.launcher.going_on()]
            sys.stderr.write("\n".join(filter(None, words)) + "\n")
            raise SystemExit(getattr(ended, "code", INTERRUPTED)) from None


def use_own_sweeper(config: DictConfig) -> None:
    """Put `Sweeper` in the place of the sweeper that it extends; others stay."""
    if config.hydra.sweeper._target_.endswith(".BasicSweeper"):
        Plugins.instance().register(Sweeper)
        config.hydra.sweeper._target_ = f"{Sweeper.__module__}.{Sweeper.__name__}"


class Remaining:
    """A launcher for what is not finished of the jobs that it is given."""

    def __init__(self, launcher: Launcher, loader: ConfigLoader, config: DictConfig) -> None:
        self.launcher, self.loader, self.config = launcher, loader, config
        self.at_once = jobs_at_once(config.hydra, available_cores())
        self.swept = set(config.hydra.callbacks.report.swept)
        self.composed: dict[tuple[str, ...], DictConfig] = {}
        self.submitted_before = submitted_to_slurm(launcher)

    def launch(self, batch: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run what is not finished; what the jobs return is of no use to this sweeper.

        Raises:
            UserError: when two jobs have the same config.
        """
        sweep, records = Path(self.config.hydra.sweep.dir), records_folder(self.config.hydra)
        jobs: dict[Path, Job] = {}
        done: dict[Job, JobReturn] = {}
        for number, overrides in enumerate(batch, initial_job_idx):
            config = self.compose(overrides, number)
            directory = sweep / config.hydra.sweep.subdir
            job = Job(number, directory, records, tuple(overrides))
            if (twin := jobs.setdefault(directory, job)) is not job:
                raise UserError(
                    f"Jobs of a sweep must differ in their configs; got jobs {twin.number} and "
                    f"{number} ({' '.join(overrides)}) with the same one. Leave one of them out."
                )
            if not config.sweep.rerun and job.summary().get("status") == "finished":
                done[job] = nothing_returned()
        record_plan(list(jobs.values()), done)
        if done:
            log.info("Skipped: finished already, %d of %d jobs.", len(done), len(jobs))
        left = [job for job in jobs.values() if job not in done]
        if left:
            done |= dict(zip(left, run_jobs(self.launcher, left, self.at_once)))
        return [done[job] for job in jobs.values()]

    def compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        """The config of a job, as Hydra composes it, and as it stands until the next call.

        Jobs that differ in numbers and words alone share a composition, in which these are set:
        composing takes a tenth of a second.
        """
        values = {
            o.key_or_group: o.value() for o in parse_overrides(overrides) if self._is_value(o)
        }
        others = (text for text in overrides if text.partition("=")[0] not in values)
        shape = (*others, *values)
        if shape not in self.composed:
            self.composed[shape] = self.loader.load_sweep_config(self.config, list(overrides))
            hydra, own = self.composed[shape].hydra, self.config.hydra
            hydra.sweep.dir = own.sweep.dir  # what all jobs share is not asked for again
            hydra.callbacks.report.swept = list(own.callbacks.report.swept)
        config = self.composed[shape]
        with open_dict(config):
            for key, value in values.items():
                OmegaConf.update(config, key, value, merge=False)
            config.hydra.overrides.task = list(overrides)
            config.hydra.job.num = number
        return config

    def _is_value(self, override: Override) -> bool:
        """Whether an override of a swept key only sets a number or a word."""
        key = override.key_or_group
        plain = override.type == OverrideType.CHANGE and override.package is None
        option = key in self.config.hydra.runtime.choices or "/" in key
        simple = not isinstance(override.value(), dict | list)
        return key in self.swept and plain and simple and not option

    def going_on(self) -> str | None:
        """How to end what goes on without this process."""
        if numbers := submitted_to_slurm(self.launcher) - self.submitted_before:
            text = "Jobs that SLURM was given stay queued, or go on. To end them: scancel"
            return f"{text} {' '.join(sorted(numbers))}"
        return None
