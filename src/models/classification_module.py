"""Training and evaluation of a network that classifies images."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from src.checks import check_choice
from src.measures import Objective
from src.models.base_module import BaseModule
from src.models.shapes import check_shapes

Batch = tuple[Tensor, Tensor]


class ClassificationModule(BaseModule):
    r"""A network trained on cross-entropy plus a penalty, see `RelaxedModule`.

    .. math:: L = \frac{1}{B} \sum_b -\log \mathrm{softmax}(f(x_b))_{y_b}
              + \alpha \, \text{penalty}

    Batches are images ``[B, C, H, W]`` with labels ``[B]``. Logged per epoch, every sample
    counting the same also where batches differ in size:

    - ``train/loss`` (L), ``train/cross_entropy``, ``train/acc``, all while the weights move;
    - ``val/loss``, ``val/acc``, ``test/loss``, ``test/acc``; these losses are the cross-entropy
      alone, so that networks compare whatever their alpha.

    Args:
        net: maps images to logits ``[B, number of labels]``.
        input_kind: how a group acts on the images: ``"scalar"``, each channel alone, or
            ``"vector"``, two channels a vector.
        training: the other arguments of `BaseModule`.
    """

    output_kind = "invariant"  # how a group acts on the logits

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        *,
        input_kind: str = "scalar",
        **training: Any,
    ) -> None:
        super().__init__(net, optimizer, scheduler, **training)
        check_choice("input_kind", input_kind, ("scalar", "vector"))
        self.input_kind = input_kind
        names = ("train/acc", "val/acc", "val/acc_reestimated", "test/acc", "test/strict/acc")
        self.accuracies = nn.ModuleDict({name: MeanMetric() for name in names})

    def check_data(self, datamodule: LightningDataModule) -> None:
        """Raise ValueError unless the network takes the data's images and has their classes."""
        shape, num_classes = self.input_shape(datamodule), getattr(datamodule, "num_classes", None)
        if None not in (shape, num_classes):
            keys = "model.net.in_channels and model.net.num_classes"
            check_shapes(self.net, shape, [num_classes], keys)

    def input_shape(self, datamodule: LightningDataModule) -> tuple[int, ...] | None:
        """Shape of an image, ``(C, H, W)``; None where the data do not say."""
        return getattr(datamodule, "image_shape", None)

    def network_inputs(self, batch: Batch) -> Tensor:
        """The images ``[B, C, H, W]`` of a batch."""
        return batch[0]

    def objective(self, batches: Sequence[Batch]) -> Objective:
        """The cross-entropy on these batches."""
        return Objective(self.net, nn.CrossEntropyLoss(), list(batches))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self(images)
        cross_entropy = self._scored("train/acc", logits, labels)
        loss = self._penalised(cross_entropy, self, images, logits)
        self._log_mean("train/cross_entropy", cross_entropy, len(labels))
        self._log_mean("train/loss", loss, len(labels))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log_validation(batch)

    def log_validation(self, batch: Batch, suffix: str = "") -> None:
        """Log the scores of validation of a batch, under their names with this suffix."""
        images, labels = batch
        cross_entropy = self._scored(f"val/acc{suffix}", self(images), labels)
        self._log_mean(f"val/loss{suffix}", cross_entropy, len(labels))

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Log the scores of a batch; return its logits beside its labels."""
        images, labels = batch
        found = {}
        for start in self._tested():
            found[start] = self(images)
            loss = self._scored(f"{start}/acc", found[start], labels)
            self._log_mean(f"{start}/loss", loss, len(labels))
        return {"logits": found["test"].detach(), "labels": labels}

    def _scored(self, name: str, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of a batch; its accuracy is logged under this name."""
        accuracy = self.accuracies[name]
        accuracy.update((logits.detach().argmax(1) == labels).float())
        self.log(name, accuracy, on_step=False, on_epoch=True, prog_bar=name.endswith("/acc"))
        return F.cross_entropy(logits, labels)
