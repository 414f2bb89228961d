"""What the training of every network shares: seeds, optimizer, schedules."""

import os
from collections.abc import Callable
from typing import Any

from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from src.checks import check_choice, wrong
from src.models.optimization import follow_metric, make_optimizer, make_scheduler
from src.models.relaxed_module import RelaxedModule
from src.seeding import seed_epoch


class BaseModule(RelaxedModule):
    r"""A network that is trained on a data loss plus what pulls it back, see `RelaxedModule`.

    .. math:: L = L_{\text{data}} + \alpha \, \text{penalty}

    Logged once, ``data/equivariance_error``: how far the data are from equivariant, where the data
    module has it. Checkpoints keep theta beside the weights: a restored network is as strict as it
    was, unless ``relaxation`` is a number, which then holds.

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
        monitor: logged metric that chooses the best epoch, for callbacks and searches.
        monitor_mode: whether more of it is better, ``max``, or less, ``min``.
        compile: whether to compile the network with `torch.compile`.
        relaxing: alpha, relaxation, penalty and penalty_group of `RelaxedModule`.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        scheduler_interval: str | None = None,
        compile: bool = False,
        monitor: str = "val/loss",
        monitor_mode: str = "min",
        **relaxing: Any,
    ) -> None:
        super().__init__(net, **relaxing)
        check_choice("monitor_mode", monitor_mode, ("max", "min"))
        for name, function in {"optimizer": optimizer, "scheduler": scheduler}.items():
            if not callable(function) and (name, function) != ("scheduler", None):
                rule = "a function that is still to be called with what it works on"
                fix = f"model/{name}=<name> of --help, or `_partial_: true` in model.{name}"
                raise ValueError(wrong(name, rule, function, fix))
        if scheduler_interval is not None:
            check_choice("scheduler_interval", scheduler_interval, ("step", "epoch"))
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.monitor, self.monitor_mode = monitor, monitor_mode
        self._has_stale_batches = True
        self._has_scores = False  # of the last validation
        self.compile_network = compile

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(inputs)

    def setup(self, stage: str) -> None:
        """Compile the network when asked to; names of its parameters stay as they are."""
        if stage == "fit" and self.compile_network:
            self.net.compile()
        super().setup(stage)

    def on_train_start(self) -> None:
        """Log the equivariance error of the data."""
        super().on_train_start()
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

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore theta; a learning-rate schedule keeps its length from this run's config."""
        super().on_load_checkpoint(checkpoint)
        for state in checkpoint.get("lr_schedulers", ()):
            for name in ("total_steps", "_schedule_phases"):
                state.pop(name, None)
