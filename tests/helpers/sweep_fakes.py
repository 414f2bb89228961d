"""Callbacks that end one job of a sweep, and spare the others."""

import os
import signal
from pathlib import Path

from run_fakes import EndAt


class EndsOneJob(EndAt):
    """Ends the job whose directory starts with `job`, unless the variable SPARED is set.

    Args:
        job: start of the directory's name.
        how: as of `EndAt`; `preempt`: by SIGUSR2, as a queue does, and not again once requeued.
        **arguments: of `EndAt`.
    """

    def __init__(self, job: str, how: str = "kill", **arguments) -> None:
        super().__init__(how=how, **arguments)
        self.job = job
        self.concerned = False

    def on_fit_start(self, trainer, pl_module) -> None:
        """Note whether this is the job."""
        self.concerned = Path(trainer.default_root_dir).name.startswith(self.job)
        if self.how == "preempt":
            self.concerned = self.concerned and trainer.ckpt_path is None

    def _kill_when_due(self, hook: str, epoch: int) -> None:
        if not self.concerned:
            return
        if self.how == "preempt" and (hook, epoch) == (self.hook, self.epoch):
            os.kill(os.getpid(), signal.SIGUSR2)
        elif self.how != "preempt":
            super()._kill_when_due(hook, epoch)
