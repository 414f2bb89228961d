"""Training and evaluation of a network that classifies images."""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics.classification import MulticlassAccuracy

from src.measures import relaxation_penalty
from src.utils.seeding import SeededEpochs

Batch = tuple[Tensor, Tensor]


class ClassificationModule(SeededEpochs):
    r"""A network trained on cross-entropy plus the relaxation penalty.

    .. math:: L = \frac{1}{B} \sum_b -\log \mathrm{softmax}(f(x_b))_{y_b}
              + \alpha \sum_{\text{layers}} \sum_{l, g, h} |w_l(g) - w_l(h)|

    Batches are images ``[B, C, H, W]`` with labels ``[B]``. Logged per epoch, every sample
    counting the same also where batches differ in size:

    - ``train/loss`` (L), ``train/cross_entropy``, ``train/acc``, all while the weights move;
      ``train/penalty``: the penalty, without alpha, of the weights at the end of the epoch.
    - ``val/loss``, ``val/acc``, ``test/loss``, ``test/acc``; these losses are the cross-entropy
      alone, so that networks compare whatever their alpha.

    Accuracies are fractions of correctly labelled samples.

    Args:
        net: maps images to logits ``[B, num_classes]``.
        optimizer: takes parameters and returns an optimizer (`_partial_: true` in a config).
        scheduler: takes the optimizer and returns a schedule, or None. One that asks for
            ``total_steps`` gets the number of optimizer steps of the whole run.
        scheduler_interval: whether the schedule advances each ``step`` or ``epoch``. By default
            each step for one that takes ``total_steps``, each epoch for others.
        alpha: weight of the penalty, at least 0.
        num_classes: number of labels.
        compile: whether to compile the network with `torch.compile`.
        channels_last: whether images and the weights of plain convolutions lie in memory with
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
        alpha: float = 0.0,
        num_classes: int = 10,
        compile: bool = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        _check_alpha(alpha)
        _check_partial("optimizer", optimizer)
        if scheduler is not None:
            _check_partial("scheduler", scheduler)
        if scheduler_interval not in (None, "step", "epoch"):
            raise ValueError(
                "`scheduler_interval` must be step, epoch or null; got "
                f"{scheduler_interval!r}. Use model.scheduler_interval=null."
            )
        self.net = net
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.alpha = float(alpha)
        self.compile_network = compile
        self.memory_format = torch.channels_last if channels_last else torch.preserve_format
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.to(memory_format=self.memory_format)
        self.accuracies = nn.ModuleDict(
            {
                split: MulticlassAccuracy(num_classes, average="micro")
                for split in ("train_", "val_", "test_")  # `train` is a method of modules
            }
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, num_classes]`` of images ``[B, C, H, W]``."""
        return self.net(images.to(memory_format=self.memory_format))

    def setup(self, stage: str) -> None:
        """Compile the network when asked to; names of its parameters stay as they are."""
        if self.compile_network and stage == "fit":
            self.net.compile()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss L of a batch."""
        cross_entropy = self._measure("train", batch)
        loss = cross_entropy
        if self.alpha > 0:
            loss = loss + self.alpha * relaxation_penalty(self.net)
        self._log_mean("train/cross_entropy", cross_entropy, batch)
        self._log_mean("train/loss", loss, batch)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the penalty of the weights that the epoch ended with."""
        self.log("train/penalty", relaxation_penalty(self.net).detach())

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Cross-entropy and accuracy on validation data."""
        self._log_mean("val/loss", self._measure("val", batch), batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Cross-entropy and accuracy on test data."""
        self._log_mean("test/loss", self._measure("test", batch), batch)

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

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep a schedule's length from this run's config, and its position from the checkpoint.

        They differ where a run is continued for more epochs than it was started with.
        """
        for state in checkpoint.get("lr_schedulers", ()):
            for name in ("total_steps", "_schedule_phases"):
                state.pop(name, None)

    def _measure(self, split: str, batch: Batch) -> Tensor:
        """Cross-entropy of a batch; its accuracy is logged."""
        images, labels = batch
        logits = self(images)
        accuracy = self.accuracies[f"{split}_"]
        accuracy.update(logits.detach(), labels)
        self.log(f"{split}/acc", accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return F.cross_entropy(logits, labels)

    def _log_mean(self, name: str, value: Tensor, batch: Batch) -> None:
        """Log the mean of a batch, weighted by its number of samples over the epoch."""
        self.log(
            name,
            value.detach(),
            on_step=False,
            on_epoch=True,
            prog_bar=name.endswith("/loss"),
            batch_size=len(batch[1]),
            sync_dist=True,
        )


def _has_length(scheduler: Callable[..., LRScheduler]) -> bool:
    """Whether the config of a schedule fixes its number of steps."""
    given = scheduler.keywords if isinstance(scheduler, partial) else {}
    return any(given.get(name) is not None for name in ("total_steps", "epochs"))


def _check_alpha(alpha: object) -> None:
    message = (
        "`alpha`, the weight of the relaxation penalty, must be a number of at least 0; got "
        f"{alpha!r}. Use model.alpha=0 for no penalty, or e.g. model.alpha=1e-5."
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
