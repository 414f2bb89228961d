"""Training and evaluation of a network that classifies images."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics.classification import MulticlassAccuracy

from src.measures import Objective
from src.models.base_module import BaseModule

Batch = tuple[Tensor, Tensor]


class ClassificationModule(BaseModule):
    r"""A network trained on cross-entropy plus the relaxation penalty.

    .. math:: L = \frac{1}{B} \sum_b -\log \mathrm{softmax}(f(x_b))_{y_b}
              + \alpha \sum_{\text{layers}} \sum_{l, g, h} |w_l(g) - w_l(h)|

    Batches are images ``[B, C, H, W]`` with labels ``[B]``. Logged per epoch, every sample
    counting the same also where batches differ in size:

    - ``train/loss`` (L), ``train/cross_entropy``, ``train/acc``, all while the weights move;
    - ``val/loss``, ``val/acc``, ``test/loss``, ``test/acc``; these losses are the cross-entropy
      alone, so that networks compare whatever their alpha.

    Args:
        net: maps images to logits ``[B, num_classes]``.
        num_classes: number of labels.
        training: the other arguments of `BaseModule`.
    """

    input_kind, output_kind = "scalar", "invariant"  # how a group acts on them

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        *,
        num_classes: int = 10,
        **training: Any,
    ) -> None:
        super().__init__(net, optimizer, scheduler, **training)
        splits = ("train_", "val_", "test_")  # `train` is a method of modules
        accuracies = {split: MulticlassAccuracy(num_classes, average="micro") for split in splits}
        self.accuracies = nn.ModuleDict(accuracies)

    def network_inputs(self, batch: Batch) -> Tensor:
        """The images ``[B, C, H, W]`` of a batch."""
        return batch[0]

    def objective(self, batches: Sequence[Batch]) -> Objective:
        """The cross-entropy on these batches."""
        return Objective(self.net, nn.CrossEntropyLoss(), list(batches))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        cross_entropy = self._cross_entropy("train", batch)
        loss = self._penalised(cross_entropy)
        self._log_mean("train/cross_entropy", cross_entropy, len(batch[1]))
        self._log_mean("train/loss", loss, len(batch[1]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._log_mean("val/loss", self._cross_entropy("val", batch), len(batch[1]))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._log_mean("test/loss", self._cross_entropy("test", batch), len(batch[1]))

    def _cross_entropy(self, split: str, batch: Batch) -> Tensor:
        """Cross-entropy of a batch; its accuracy is logged."""
        images, labels = batch
        logits = self(images)
        accuracy = self.accuracies[f"{split}_"]
        accuracy.update(logits.detach(), labels)
        self.log(f"{split}/acc", accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return F.cross_entropy(logits, labels)
