"""What the training of every network shares: seeds, optimizer, schedules, penalty."""

import math
import os
from collections.abc import Callable
from typing import Any

from lightning import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from src.checks import check_choice, check_number, wrong
from src.models.components.gcnn.relaxation import (
    check_relaxation,
    relaxation_penalty,
    relaxations,
    restore_relaxations,
    set_relaxation,
)
from src.models.components.schedules import Schedule
from src.models.optimization import follow_metric, make_optimizer, make_scheduler
from src.seeding import seed_epoch


class BaseModule(LightningModule):
    r"""A network that is trained on a data loss plus the relaxation penalty.

    .. math:: L = L_{\text{data}} + \alpha \, \text{penalty}

    with the penalty of `relaxation_penalty`. Logged per epoch: ``train/penalty``, the penalty,
    without alpha, of the weights that the epoch ended with; once, ``data/equivariance_error``: how
    far the data are from equivariant, where the data module has it.

    Relaxed layers use w_bar + theta (w - w_bar) in place of their weights w, see `Relaxable`, in
    the penalty too. Alpha and theta may be schedules: functions of the number of optimizer steps
    taken over that of the whole run. ``train/alpha`` and ``train/relaxation``, the value an epoch
    ended with, are logged for schedules alone. Checkpoints keep theta beside the weights: a
    restored network is as strict as it was, unless ``relaxation`` is a number, which then holds.

    Metrics of validation (``val/...``) stand in ``trainer.callback_metrics`` only as long as the
    network has the weights that they are of.

    The random state at the start of a training epoch is a function of the run's seed (that of
    `lightning.seed_everything`, if there is one), the epoch and the rank of the process alone.

    Subclasses define the steps; ``network_inputs(batch)``, what the network is given for a batch,
    for callbacks that measure it; ``log_validation(batch, suffix)``, which logs the scores of
    validation as ``val/<score><suffix>``; and ``objective(batches)``, the data loss on batches as
    an `Objective`, a function of the network's weights.

    Args:
        net: the network.
        optimizer: takes parameters and returns an optimizer (`_partial_: true` in a config); see
            `make_optimizer` for ``relaxed_lr_factor``.
        scheduler: takes the optimizer and returns a schedule, or None. One that asks for
            ``total_steps`` gets the optimizer steps of the whole run. One that follows a metric
            takes a step after each validation, by ``val/loss``.
        scheduler_interval: whether the schedule advances each ``step`` or ``epoch``. By default
            each step for one that takes ``total_steps``, each epoch for others.
        alpha: weight of the penalty, at least 0: a number, or a `Schedule` of it.
        relaxation: theta, from 0 (strict) to 1 (free): a number, a `Schedule` of it, or None:
            free, without any cost.
        monitor: logged metric that chooses the best epoch, for callbacks and searches.
        monitor_mode: whether more of it is better, ``max``, or less, ``min``.
        compile: whether to compile the network with `torch.compile`.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        scheduler_interval: str | None = None,
        alpha: float | Schedule = 0.0,
        compile: bool = False,
        relaxation: float | Schedule | None = None,
        monitor: str = "val/loss",
        monitor_mode: str = "min",
    ) -> None:
        super().__init__()
        check_choice("monitor_mode", monitor_mode, ("max", "min"))
        for number in _ends(alpha):
            fix = "model.alpha=0 for no penalty, e.g. model.alpha=1e-5, or a schedule of numbers"
            check_number("alpha", number, 0, fix=fix)
        for number in _ends(relaxation):
            check_relaxation(number)
        for name, function in {"optimizer": optimizer, "scheduler": scheduler}.items():
            if not callable(function) and (name, function) != ("scheduler", None):
                rule = "a function that is still to be called with what it works on"
                fix = f"model/{name}=<name> of --help, or `_partial_: true` in model.{name}"
                raise ValueError(wrong(name, rule, function, fix))
        if scheduler_interval is not None:
            check_choice("scheduler_interval", scheduler_interval, ("step", "epoch"))
        self.net = net
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.alpha_schedule = alpha if isinstance(alpha, Schedule) else None
        self.alpha = alpha
        self.relaxation = relaxation
        self.monitor, self.monitor_mode = monitor, monitor_mode
        self._total_steps: float = 1
        self._has_stale_batches = True
        self._has_scores = False  # of the last validation
        self.compile_network = compile
        self._has_schedules = any(isinstance(v, Schedule) for v in (alpha, relaxation))
        self._follow_schedules(0.0)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(inputs)

    def setup(self, stage: str) -> None:
        """Compile the network when asked to; names of its parameters stay as they are."""
        if stage != "fit":
            return
        if self.compile_network:
            self.net.compile()
        thetas = relaxations(self.net)
        if self.relaxation is None and thetas:  # loaded: the run must not start strict unawares
            raise ValueError(
                "`relaxation` must say how a network goes on that comes from a checkpoint with "
                f"one; got null, and {next(iter(thetas.values())):g} in the checkpoint. Use "
                "model.relaxation=1.0 for free layers, or the checkpoint's number."
            )
        self._follow_schedules(0.0)  # a resumed run's theta comes with the checkpoint after this

    def on_train_start(self) -> None:
        """Set alpha and theta to their values at the step where the run stands."""
        self._total_steps = self.trainer.estimated_stepping_batches
        if self._has_schedules and not 1 <= self._total_steps < math.inf:
            raise ValueError(
                "a schedule, such as of `alpha`, needs a run of known length; got one of "
                f"{self._total_steps} steps. Set trainer.max_epochs or trainer.max_steps."
            )
        self._follow_schedules(self._progress())
        error = getattr(self.trainer.datamodule, "equivariance_error", None)
        if error is not None and self.trainer.global_step == 0 and self.trainer.is_global_zero:
            for logger in self.loggers:
                logger.log_metrics({"data/equivariance_error": error, "epoch": 0}, step=0)

    def on_train_epoch_start(self) -> None:
        """Seed the epoch; where a run is resumed, also start its batches anew."""
        seed = os.environ.get("PL_GLOBAL_SEED")
        if seed is None:
            return
        seed_epoch(int(seed), self.current_epoch, self.global_rank)
        # Lightning makes the first iterator of a fit before it knows the epoch to resume at:
        # workers of the data loader would have fetched batches in the order of epoch 0.
        if self._has_stale_batches and self.current_epoch > 0:
            iter(self.trainer.fit_loop._data_fetcher)
        self._has_stale_batches = False

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Forget metrics of validation: the network is about to change."""
        if self._has_scores:
            metrics = self.trainer.callback_metrics
            for name in [name for name in metrics if name.startswith("val/")]:
                del metrics[name]
            self._has_scores = False

    def on_validation_end(self) -> None:
        """Let schedules that follow a metric take a step."""
        if self.trainer.state.fn != TrainerFn.FITTING or self.trainer.sanity_checking:
            return
        self._has_scores = True
        follow_metric(self.trainer.lr_scheduler_configs, self.trainer.callback_metrics)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Set alpha and theta to their values at the next step."""
        if self._has_schedules:
            self._follow_schedules(self._progress())

    def on_train_epoch_end(self) -> None:
        """Log the penalty of the weights that the epoch ended with, and values of schedules."""
        self.log("train/penalty", relaxation_penalty(self.net).detach(), sync_dist=True)
        if self.alpha_schedule is not None:
            self.log("train/alpha", self.alpha, sync_dist=True)
        if isinstance(self.relaxation, Schedule):
            self.log("train/relaxation", self.relaxation(self._progress()), sync_dist=True)

    def check_optimizer(self) -> None:
        """Raise ValueError unless optimizer and schedule can be made of what they are given."""
        self._make_optimizer(total_steps=100, validates=True)

    def configure_optimizers(self) -> dict[str, Any]:
        total_steps = self.trainer.estimated_stepping_batches
        return self._make_optimizer(total_steps, self.trainer.enable_validation)

    def _make_optimizer(self, total_steps: float, validates: bool) -> dict[str, Any]:
        optimizer = make_optimizer(self, self.optimizer)
        if self.scheduler is None:
            return {"optimizer": optimizer}
        settings = total_steps, self.scheduler_interval, validates
        made = make_scheduler(self.scheduler, optimizer, *settings)
        return {"optimizer": optimizer, "lr_scheduler": made}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["relaxation"] = relaxations(self.net)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore theta; a learning-rate schedule keeps its length from this run's config."""
        if self.relaxation is None or isinstance(self.relaxation, Schedule):
            restore_relaxations(self.net, checkpoint.get("relaxation", {}))
        for state in checkpoint.get("lr_schedulers", ()):
            for name in ("total_steps", "_schedule_phases"):
                state.pop(name, None)

    def _progress(self) -> float:
        """Fraction of the run's optimizer steps that were taken."""
        return self.trainer.global_step / self._total_steps

    def _follow_schedules(self, progress: float) -> None:
        """Set alpha and theta to their values at this progress."""
        if self.alpha_schedule is not None:
            self.alpha = self.alpha_schedule(progress)
        theta = self.relaxation
        if theta is not None:
            set_relaxation(self.net, theta(progress) if isinstance(theta, Schedule) else theta)

    def _penalised(self, data_loss: Tensor) -> Tensor:
        if self.alpha == 0:
            return data_loss
        return data_loss + self.alpha * relaxation_penalty(self.net)

    def _log_mean(self, name: str, value: Tensor, num_samples: int) -> None:
        """Log the mean of a batch, weighted by its number of samples over epoch and processes."""
        self.log(
            name,
            value.detach(),
            on_step=False,
            on_epoch=True,
            prog_bar=name.endswith("/loss"),
            batch_size=float(num_samples),  # Lightning's mean over processes would be rounded
            sync_dist=True,
        )


def _ends(value: Any) -> tuple:
    """The numbers that a schedule lies between; a number itself."""
    return (value.start, value.end) if isinstance(value, Schedule) else (value,)
