"""Labelled images in memory: the base of their data modules."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from src.checks import check_integer, wrong
from src.data.loading import ImageDataset, InMemoryDataModule
from src.data.rotation import rotate_images, turn_vectors, uniform_angles
from src.data.splits import balanced_subset, held_out_indices

Batch = tuple[Tensor, Tensor]


class ImageDataModule(InMemoryDataModule):
    """Base of data modules of labelled images: batches (images ``[B, C, H, W]``, labels ``[B]``).

    A data set of one's own sets ``num_classes`` and ``image_shape``, from which networks and
    metrics take their sizes, before ``setup`` (as attributes of the class, say), and defines
    ``read_parts``. An example stands in docs/extending.md.

    Images are float32 of mean 0 and variance 1, by the mean and the standard deviation over all
    pixels and channels of the training images that are used. Vector fields are divided by the root
    mean square alone, because a constant vector does not turn. Labels are int64. Order and
    augmentation are functions of (seed, epoch, rank) alone, so networks trained with one seed see
    the same images, and a run resumed at the end of an epoch goes on as if it had not stopped.

    Args:
        augment: whether to change training images in every epoch by ``augmentation``, which turns
            them. This happens on the device, in the hook of a Trainer that is fitting; a loader
            used without one yields the images as they are.
        num_train: number of training images, equally many of each class; None: all. The subsets
            are the same in every run, and each is contained in the larger ones. Validation and
            test images do not depend on it.
        loading: batch_size, num_workers and seed, see `InMemoryDataModule`; the seed is that of
            augmentation too.

    Attributes:
        num_classes: number of labels.
        image_shape: shape of one image, (C, H, W).
        input_kind: how a group acts on images: ``"scalar"``, each channel alone, or ``"vector"``,
            two channels a vector, along columns and along rows.
        max_angle: largest angle of ``augmentation``, in degrees; 180 unless a class has its own.
        mean, std: of the training images, None before ``setup``.

    Raises:
        ValueError: if an option lies outside its range, or images or labels are not as promised.
    """

    num_classes: int
    image_shape: tuple[int, int, int]
    input_kind = "scalar"
    max_angle: float = 180

    def __init__(
        self,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int | None = 0,
        augment: bool = False,
        num_train: int | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        if not isinstance(augment, bool):
            raise ValueError(wrong("augment", "true or false", augment, "data.augment=true"))
        if num_train is not None:
            check_integer("num_train", num_train)
        self.augment = augment
        self.num_train = num_train
        self.mean: float | None = None
        self.std: float | None = None

    def read_parts(self) -> Mapping[str, tuple[Any, Any]]:
        """Images and labels of the parts ``train``, ``val`` and ``test``, as tensors or arrays.

        Images are bytes in 0..255, which are divided by 255, or floats, ``[N, C, H, W]``; labels
        are whole numbers from 0 on. A part that is missing is a tenth of the training images,
        held out at random, the same in every run.
        """
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        """Load all parts and normalise them, and start the random streams anew."""
        self._start_streams()
        if self._datasets:
            return
        parts = {n: self._checked(n, *part) for n, part in self.read_parts().items()}
        for missing in [name for name in ("test", "val") if name not in parts]:
            images, labels = parts["train"]
            kept, held_out = held_out_indices(len(labels), len(labels) // 10)
            parts[missing] = images[held_out], labels[held_out]
            parts["train"] = images[kept], labels[kept]
        if self.num_train is not None:
            images, labels = parts["train"]
            rows = balanced_subset(labels, self.num_train, self.num_classes)
            parts["train"] = images[rows], labels[rows]
        train = parts["train"][0]
        if self.input_kind == "vector":
            self.mean, self.std = 0.0, train.square().mean().sqrt().item()
        else:
            std, mean = torch.std_mean(train, correction=0)
            self.mean, self.std = mean.item(), std.item()
        self._datasets = {
            name: ImageDataset((images - self.mean).div_(self.std), labels)
            for name, (images, labels) in parts.items()
        }

    def test_dataloader(self) -> DataLoader:
        """Test batches, always in the same order."""
        return self._loader(self._dataset("test"))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Change a training batch on its device when augmentation is on."""
        if not (self.augment and self.trainer is not None and self.trainer.training):
            return batch
        images, labels = batch
        return self.augmented(images, self.trainer.current_epoch), labels

    def augmented(self, images: Tensor, epoch: int) -> Tensor:
        """`augmentation` of normalised images ``[B, C, H, W]`` with the epoch's next numbers.

        The background is restored before, so that what turns into view is black as in the images
        that were read. Numbers are drawn on the CPU and are the same for every device.
        """
        return self._changed(images, self._augmentation_stream(epoch))

    def augmentation(self, images: Tensor, generator: Generator) -> Tensor:
        """Turn each image ``[B, C, H, W]``, where 0 is black, by an angle within +-``max_angle``.

        To be overridden for another choice; random numbers must come from ``generator``, which
        lies on the CPU.
        """
        angles = uniform_angles(len(images), generator, self.max_angle).to(images.device)
        turned = rotate_images(images, angles)
        return turned if self.input_kind == "scalar" else turn_vectors(turned, angles)

    def _as_trained(self, batch: Batch, generator: Generator) -> Batch:
        images, labels = batch
        return (self._changed(images, generator) if self.augment else images), labels

    def _changed(self, images: Tensor, generator: Generator) -> Tensor:
        black = -self.mean / self.std
        return self.augmentation(images - black, generator).add_(black)

    def _checked(self, part: str, images: Any, labels: Any) -> tuple[Tensor, Tensor]:
        """Images as float32 and labels as int64, if they are what the attributes promise."""
        images, labels = torch.as_tensor(images), torch.as_tensor(labels).long()
        expected, got = tuple(self.image_shape), tuple(images.shape)
        span = (labels.min().item(), labels.max().item()) if len(labels) else (0, -1)
        inside = 0 <= span[0] <= span[1] < self.num_classes
        if got != (len(labels), *expected) or not inside:
            raise ValueError(
                f"the {part} images of {type(self).__name__} must be [N, "
                f"{', '.join(map(str, expected))}] with N labels from 0 to {self.num_classes - 1}; "
                f"got images {list(got)} and {len(labels)} labels from {span[0]} to {span[1]}. "
                "Change `image_shape` or `num_classes` of the class, or what `read_parts` returns."
            )
        return images / 255 if images.dtype == torch.uint8 else images.float(), labels
