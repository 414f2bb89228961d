"""Statistics of batch norm, estimated anew for the weights that are validated and measured."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from src.callbacks.stopping import validates_in_training
from src.callbacks.subset import training_sample
from src.checks import check_integer
from src.data.samples import Batch
from src.measures import Subject
from src.measures.batch_norm import given_statistics, statistics_of
from src.measures.context import single_precision
from src.models.components.gcnn.relaxation import relaxed_layers

VALIDATION = "val/"  # start of the names of metrics of validation data
REESTIMATED = "_reestimated"  # end of those that were scored with such statistics


class ReestimatedStatistics(Callback):
    """Validates a second time, with `reestimated_statistics` of the weights as they are.

    The running statistics of batch norm lag behind weights that move, and with them every score of
    validation. Beside ``val/<score>`` this logs ``val/<score>_reestimated``, of the same batches.
    Other callbacks measure with the same statistics, see `reestimated`; they are estimated once for
    the same weights. Training, and the network's own statistics, stay as they are.

    Networks without batch norm are not run again: their scores are logged under both names.

    Args:
        num_samples: training samples to estimate on, augmented as in training, the same in the
            whole run; see `training_sample`.
        seed: random seed of these samples.

    Attributes:
        validated: statistics that the last validation was scored with, by the names of buffers of
            the Lightning module; empty without batch norm.
    """

    def __init__(self, num_samples: int = 640, seed: int = 0) -> None:
        check_integer("num_samples", num_samples)
        check_integer("seed", seed, minimum=0)
        self.num_samples = num_samples
        self.seed = seed
        self.validated: dict[str, Tensor] = {}
        self._batches: Sequence[Batch] | None = None
        self._weights: list[Tensor] = []  # and thetas that `_estimated` belongs to
        self._estimated: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batches, self._weights, self._estimated = None, [], {}

    def batches(self, trainer: Trainer) -> Sequence[Batch]:
        """The training samples, drawn once in a fit."""
        if self._batches is None:
            self._batches = training_sample(trainer, self.num_samples, self.seed)
        return self._batches

    def statistics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Tensor]:
        """Estimates for weights and theta as they are, by name; of the same ones only once."""
        if not statistics_of(pl_module):
            return {}
        weights = [p.detach() for p in pl_module.parameters()]
        layers = relaxed_layers(pl_module).values()
        weights += [x.relaxation.detach() for x in layers if x.relaxation is not None]
        known = len(weights) == len(self._weights)
        if not (known and all(map(torch.equal, weights, self._weights))):
            with torch.inference_mode(False), torch.no_grad(), single_precision(pl_module):
                batches = self.batches(trainer)
                with Subject(pl_module, batches, statistics=batches).reestimated():
                    found = statistics_of(pl_module).items()
                    self._estimated = {name: buffer.clone() for name, buffer in found}
            self._weights = [w.clone() for w in weights]
        return self._estimated

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated = {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not validates_in_training(trainer):
            return
        self.validated = self.validated or self.statistics(trainer, pl_module)
        if self.validated:
            as_validated = trainer.precision_plugin.val_step_context()
            with given_statistics(pl_module, self.validated), as_validated:
                pl_module.log_validation(batch, REESTIMATED)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if validates_in_training(trainer) and not self.validated:
            scores = {n: v for n, v in trainer.callback_metrics.items() if n.startswith(VALIDATION)}
            copies = {f"{name}{REESTIMATED}": value for name, value in scores.items()}
            self.log_dict(copies, sync_dist=True)


@contextmanager
def reestimated(trainer: Trainer, pl_module: LightningModule) -> Iterator[Sequence[Batch]]:
    """Give batch norms the statistics of the trainer's `ReestimatedStatistics`, until it is left.

    Yields the training samples that they are estimated on, for measures of other weights; none
    without such a callback, and for networks without batch norm.
    """
    for callback in trainer.callbacks:
        if isinstance(callback, ReestimatedStatistics) and statistics_of(pl_module):
            with given_statistics(pl_module, callback.statistics(trainer, pl_module)):
                yield callback.batches(trainer)
            return
    yield ()
