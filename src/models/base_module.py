"""What the training of every network shares: optimizer, schedule, penalty, memory layout."""

import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from src.checks import check_choice
from src.measures import Objective
from src.models.components.gcnn.relaxation import (
    check_relaxation,
    relaxation_penalty,
    relaxations,
    restore_relaxations,
    set_relaxation,
)
from src.models.components.schedules import Schedule
from src.models.seeded_epochs import SeededEpochs


class BaseModule(SeededEpochs):
    r"""A network that is trained on a data loss plus the relaxation penalty.

    .. math:: L = L_{\text{data}} + \alpha \, \text{penalty}

    with the penalty of `relaxation_penalty`. Logged per epoch: ``train/penalty``, the penalty,
    without alpha, of the weights that the epoch ended with. Schedules that follow a metric follow
    ``val/loss``.

    Relaxed layers use w_bar + theta (w - w_bar) in place of their weights w, see `Relaxable`, in
    the penalty too. Alpha and theta may be schedules over training: functions of its progress,
    the number of optimizer steps taken over that of the whole run. Each step is taken at the
    progress before it; validation and checkpoints have the progress they come at. ``train/alpha``
    and ``train/relaxation``, the value an epoch ended with, are logged for schedules alone.
    Checkpoints keep theta (beside the weights): a restored network is as strict as it was, unless
    ``relaxation`` is a number, which then holds.

    Subclasses define the steps, ``network_inputs`` and ``objective``.

    Args:
        net: the network.
        optimizer: takes parameters and returns an optimizer (`_partial_: true` in a config).
        scheduler: takes the optimizer and returns a schedule, or None. One that asks for
            ``total_steps`` gets the number of optimizer steps of the whole run.
        scheduler_interval: whether the schedule advances each ``step`` or ``epoch``. By default
            each step for one that takes ``total_steps``, each epoch for others.
        alpha: weight of the penalty, at least 0: a number, or a `Schedule` of it.
        relaxation: theta, from 0 (strict) to 1 (free): a number, a `Schedule` of it, or None:
            free, without any cost.
        monitor: logged metric that chooses the best epoch, for callbacks and searches.
        monitor_mode: whether more of it is better, ``max``, or less, ``min``.
        compile: whether to compile the network with `torch.compile`.
        channels_last: whether inputs and the weights of plain convolutions lie in memory with
            the channels last (`torch.channels_last`). The same results; plain networks of few
            channels are faster. Batch norm of feature maps on a group puts channels first again.

    Raises:
        TypeError, ValueError: if an argument has another type or lies outside its range.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        scheduler_interval: str | None = None,
        alpha: float | Schedule = 0.0,
        compile: bool = False,
        channels_last: bool = False,
        relaxation: float | Schedule | None = None,
        monitor: str = "val/loss",
        monitor_mode: str = "min",
    ) -> None:
        super().__init__()
        check_choice("monitor_mode", monitor_mode, ("max", "min"))
        _check_values(alpha, _check_alpha)
        _check_values(relaxation, check_relaxation)
        _check_partial("optimizer", optimizer)
        if scheduler is not None:
            _check_partial("scheduler", scheduler)
        if scheduler_interval not in (None, "step", "epoch"):
            raise ValueError(
                "`scheduler_interval` must be step, epoch or null; got "
                f"{scheduler_interval!r}. Use model.scheduler_interval=null."
            )
        self.net = net
        self.monitor, self.monitor_mode = monitor, monitor_mode
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.alpha_schedule = alpha if isinstance(alpha, Schedule) else None
        self.alpha = _value_at(alpha, 0.0)
        self.relaxation = relaxation
        self._total_steps: float = 1
        self.compile_network = compile
        self.memory_format = torch.channels_last if channels_last else torch.preserve_format
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.to(memory_format=self.memory_format)
        self._follow_schedules(0.0)

    def forward(self, inputs: Tensor) -> Tensor:
        """The network's output for inputs ``[B, C, H, W]``."""
        return self.net(inputs.to(memory_format=self.memory_format))

    def network_inputs(self, batch: Any) -> Tensor:
        """What the network is given for a batch, for callbacks that measure the network."""
        raise NotImplementedError

    def objective(self, batches: Sequence[Any]) -> Objective:
        """The data loss on these batches as a function of the network's weights."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Compile the network when asked to; names of its parameters stay as they are."""
        if stage != "fit":
            return
        if self.compile_network:
            self.net.compile()
        self._check_start()
        self._follow_schedules(0.0)  # a resumed run's theta comes with the checkpoint after this

    def on_train_start(self) -> None:
        """Take up schedules where the run stands."""
        self._total_steps = self.trainer.estimated_stepping_batches
        if self._has_schedules() and not 1 <= self._total_steps < math.inf:
            raise ValueError(
                "a schedule of `alpha` or `relaxation` needs a run of known length; got one of "
                f"{self._total_steps} steps. Set trainer.max_epochs or trainer.max_steps."
            )
        self._follow_schedules(self._progress())

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Follow schedules."""
        if self._has_schedules():
            self._follow_schedules(self._progress())

    def on_train_epoch_end(self) -> None:
        """Log the penalty of the weights that the epoch ended with, and values of schedules."""
        self.log("train/penalty", relaxation_penalty(self.net).detach(), sync_dist=True)
        if self.alpha_schedule is not None:
            self.log("train/alpha", self.alpha, sync_dist=True)
        if isinstance(self.relaxation, Schedule):
            relaxation = self.relaxation(self._progress())
            self.log("train/relaxation", relaxation, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Optimizer and, if there is one, schedule."""
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        counts_steps = "total_steps" in inspect.signature(self.scheduler).parameters
        length = {}
        if counts_steps and not _has_length(self.scheduler):
            length["total_steps"] = self.trainer.estimated_stepping_batches
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": self.scheduler(optimizer, **length),
                "interval": self.scheduler_interval or ("step" if counts_steps else "epoch"),
                "monitor": "val/loss",
            },
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep theta of every relaxed layer that has one."""
        checkpoint["relaxation"] = relaxations(self.net)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore theta; keep a schedule's length from this run's config.

        A learning-rate schedule's position is the checkpoint's. Lengths differ where a run is
        continued for more epochs than it was started with.
        """
        if self.relaxation is None or isinstance(self.relaxation, Schedule):
            restore_relaxations(self.net, checkpoint.get("relaxation", {}))
        for state in checkpoint.get("lr_schedulers", ()):
            for name in ("total_steps", "_schedule_phases"):
                state.pop(name, None)

    def _has_schedules(self) -> bool:
        return self.alpha_schedule is not None or isinstance(self.relaxation, Schedule)

    def _progress(self) -> float:
        """Fraction of the run's optimizer steps that were taken."""
        return self.trainer.global_step / self._total_steps

    def _follow_schedules(self, progress: float) -> None:
        """Set alpha and theta to their values at this progress."""
        if self.alpha_schedule is not None:
            self.alpha = self.alpha_schedule(progress)
        if self.relaxation is not None:
            set_relaxation(self.net, _value_at(self.relaxation, progress))

    def _check_start(self) -> None:
        """A run that is to be free must not start strict unawares."""
        thetas = relaxations(self.net)
        if self.relaxation is None and thetas:
            raise ValueError(
                "`relaxation` must say how a network goes on that comes from a checkpoint with "
                f"one; got null, and {next(iter(thetas.values())):g} in the checkpoint. Use "
                "model.relaxation=1.0 for free layers, or the checkpoint's number."
            )

    def _penalised(self, data_loss: Tensor) -> Tensor:
        """L of a data loss."""
        if self.alpha == 0:
            return data_loss
        return data_loss + self.alpha * relaxation_penalty(self.net)

    def _log_mean(self, name: str, value: Tensor, num_samples: int) -> None:
        """Log the mean of a batch, weighted by its number of samples over epoch and processes.

        The number is a float: the mean over processes, which Lightning takes of it, would be
        rounded if it were an integer.
        """
        self.log(
            name,
            value.detach(),
            on_step=False,
            on_epoch=True,
            prog_bar=name.endswith("/loss"),
            batch_size=float(num_samples),
            sync_dist=True,
        )


def _has_length(scheduler: Callable[..., LRScheduler]) -> bool:
    """Whether the config of a schedule fixes its number of steps."""
    given = scheduler.keywords if isinstance(scheduler, partial) else {}
    return any(given.get(name) is not None for name in ("total_steps", "epochs"))


def _value_at(value: float | Schedule, progress: float) -> float:
    return value(progress) if isinstance(value, Schedule) else float(value)


def _check_values(value: object, check: Callable[[object], None]) -> None:
    """Check a number, or all that a schedule lies between."""
    for number in (value.start, value.end) if isinstance(value, Schedule) else (value,):
        check(number)


def _check_alpha(alpha: object) -> None:
    message = (
        "`alpha`, the weight of the relaxation penalty, must be a number of at least 0; got "
        f"{alpha!r}. Use model.alpha=0 for no penalty, or e.g. model.alpha=1e-5, or a schedule of "
        "such numbers (src/models/components/schedules.py)."
    )
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        raise TypeError(message)
    if not math.isfinite(alpha) or alpha < 0:
        raise ValueError(message)


def _check_partial(name: str, value: object) -> None:
    if not callable(value):
        raise TypeError(
            f"`{name}` must be a function that is still to be called with what it works on; got "
            f"{type(value).__name__}. Add `_partial_: true` to model.{name}."
        )
