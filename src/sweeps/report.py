"""What became of the jobs of a sweep: checks before the first, a report after the last."""

import os
import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from src.runs.resolvers import ROOT, register_resolvers
from src.sweeps.checks import sweep_problems
from src.sweeps.names import register_sweep_resolvers
from src.sweeps.records import write_report


class SweepReport(Callback):
    """Hydra's callback around a sweep: checks before it, the report after it.

    After the last job it writes `sweep.json` into the sweep's folder: every job's directory,
    overrides, status and error. The process ends with status 1 when a job is not finished.

    A worker unpickles this object first of all, and is made ready by it: the resolvers of configs
    are registered, the command line is that of the sweep, and GPUs hidden by submitit's local
    executor are seen again.

    `started` is the name of this start of the sweep, `swept` the keys that have several values.
    """

    def __init__(self, started: str, swept: list[str]) -> None:
        self.started = started
        self.swept = list(swept)
        self.command = list(sys.argv)
        self.visible_devices = os.environ.get("CUDA_VISIBLE_DEVICES")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        sys.argv[:] = self.command
        register_resolvers()
        register_sweep_resolvers()
        hidden = not os.environ.get("CUDA_VISIBLE_DEVICES", "all")
        if os.environ.get("SUBMITIT_EXECUTOR") == "local" and hidden:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
            if self.visible_devices is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = self.visible_devices

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with a message where the command line is bad: Hydra hides errors of callbacks."""
        if problems := sweep_problems(config):
            sys.exit("\n".join(problems))
        # Workers import this project wherever they are started.
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        from src.sweeps.sweeper import use_own_sweeper  # needs torch, which --help does without

        use_own_sweeper(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit naming the jobs that are not finished."""
        if message := write_report(config):
            sys.exit(message)
