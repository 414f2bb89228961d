"""How the optimizer moves the weights: gradients, updates, learning rate, time per step."""

from time import perf_counter
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from src.callbacks.dynamics import EPOCHS_TRAINED
from src.callbacks.stopping import epochs_trained
from src.checks import check_integer
from src.measures import grad_norm, kernels, network_of, update_ratio


class OptimizationDynamics(Callback):
    """Logs epoch means of what the optimizer does, over all trainable parameters together.

    - ``dynamics/grad_norm``: norm of the gradient, before clipping.
    - ``dynamics/update_ratio``: ||w_after - w_before|| / ||w_before|| of a step.
    - ``dynamics/first_step/<layer>``: ||W_1 - W_0|| / ||W_0|| of each layer's expanded kernel in
      the first step of training, and ``dynamics/first_step``, the mean over layers: how far one
      learning rate moves networks of different layers. With the first epoch's means alone.
    - ``dynamics/learning_rate``: that of the optimizer's first parameter group.
    - ``dynamics/step_time``: seconds for one batch: forward, backward and, where due, the
      update, without loading. A CUDA device is synchronised around measured steps.

    Sums stay on the device until the epoch ends. They are part of a checkpoint, so that a run
    resumed in the middle of an epoch logs the mean over the whole of it. So are ``step_times``,
    the means of all epochs so far.

    Args:
        every_n_steps: n, measure at optimizer steps 0, n, 2 n, ...; a positive integer.
    """

    def __init__(self, every_n_steps: int = 1) -> None:
        check_integer("every_n_steps", every_n_steps)
        self.every_n_steps = every_n_steps
        self._sums: dict[str, Tensor | float] = {}
        self._counts: dict[str, int] = {}
        self.step_times: list[float] = []
        self._measuring = False
        self._started = 0.0
        self._parameters: list[Tensor] = []
        self._before: list[Tensor] = []
        self._first_kernels: dict[str, Tensor] = {}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._sums, self._counts = {}, {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._measuring = trainer.global_step % self.every_n_steps == 0
        if self._measuring:
            self._started = _now(pl_module.device)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if self._measuring and not self._before:  # L-BFGS evaluates a batch several times
            self._parameters = [p for p in pl_module.parameters() if p.requires_grad]
            self._add("grad_norm", grad_norm(self._parameters))
            self._add("learning_rate", float(optimizer.param_groups[0]["lr"]))
            self._before = [p.detach().clone() for p in self._parameters]
            if trainer.global_step == 0:
                self._first_kernels = kernels(network_of(pl_module))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._measuring:
            self._add("step_time", _now(pl_module.device) - self._started)
            if self._before:  # the optimizer stepped; it does not while gradients accumulate
                self._add("update_ratio", update_ratio(self._before, self._parameters))
                self._before = []
            if self._first_kernels:
                self._add_first_step(kernels(network_of(pl_module)))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        means = {f"dynamics/{n}": total / self._counts[n] for n, total in self._sums.items()}
        if means:
            self.step_times.append(means["dynamics/step_time"])
            means[EPOCHS_TRAINED] = float(epochs_trained(trainer))
            self.log_dict(means, sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        sums = {name: float(total) for name, total in self._sums.items()}
        counts, times = dict(self._counts), list(self.step_times)
        return {"sums": sums, "counts": counts, "step_times": times}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._sums, self._counts = dict(state_dict["sums"]), dict(state_dict["counts"])
        self.step_times = list(state_dict.get("step_times", []))  # not in older checkpoints

    def _add_first_step(self, after: dict[str, Tensor]) -> None:
        before, self._first_kernels = self._first_kernels, {}
        changes = {name: update_ratio([before[name]], [after[name]]) for name in before}
        self._add("first_step", torch.stack(list(changes.values())).mean())
        for name, change in changes.items():
            self._add(f"first_step/{name}", change)

    def _add(self, name: str, value: Tensor | float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts[name] = self._counts.get(name, 0) + 1


def _now(device: torch.device) -> float:
    """Seconds on a clock, read once the device has done all work it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()
