"""Parsers of the files in which digits are published, each returning the three splits.

Every parser takes the paths of a source's files and the number of images per split, and returns
``{split: LabelledImages}``. The files were checked against their checksums before.
"""

import gzip
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from src.data.rotmnist.splits import class_balanced_indices, held_out_indices

IMAGE_SIZE = 28


class LabelledImages(NamedTuple):
    """Images ``[N, 28, 28]``, uint8 in 0..255 or float32 in 0..1, and int64 labels ``[N]``."""

    images: Tensor
    labels: Tensor

    def at(self, indices: Tensor) -> "LabelledImages":
        """The samples at ``indices``, as a copy."""
        return LabelledImages(self.images[indices], self.labels[indices])


def parse_csv(paths: list[Path], sizes: dict[str, int]) -> dict[str, LabelledImages]:
    """Parse one comma-separated table of 784 grey values and a label, and balance the classes."""
    digits = _from_table(np.loadtxt(paths[0], delimiter=",", dtype=np.uint8))
    indices = class_balanced_indices(digits.labels, sizes)
    return {split: digits.at(rows) for split, rows in indices.items()}


def parse_amat(paths: list[Path], sizes: dict[str, int]) -> dict[str, LabelledImages]:
    """Parse the archive of rotated MNIST: 784 floats and a label per line of text.

    The first 10,000 lines of the training file train and the last 2,000 validate, as in
    Larochelle et al. 2007. Pixels are taken row by row, without a transposition, as Cohen & Welling
    2016 and the loaders that followed them do; in the same collection the sets with noisy or
    pictured backgrounds are the ones stored column by column.
    """
    name = "mnist_all_rotation_normalized_float_{}.amat"
    with zipfile.ZipFile(paths[0]) as archive:
        first, test = (_read_amat(archive, name.format(part)) for part in ("train_valid", "test"))
    rows = torch.arange(len(first.labels))
    train, val = rows[: sizes["train"]], rows[sizes["train"] :]
    return {"train": first.at(train), "val": first.at(val), "test": test}


def parse_idx(paths: list[Path], sizes: dict[str, int]) -> dict[str, LabelledImages]:
    """Parse MNIST's four files (images and labels to train on and to test on) in IDX format.

    The validation images are held out of the training file; the test file is the test split.
    """
    arrays = [torch.from_numpy(_read_idx(path)) for path in paths]
    first = LabelledImages(arrays[0], arrays[1].long())
    test = LabelledImages(arrays[2], arrays[3].long())
    train, val = held_out_indices(len(first.labels), sizes["val"])
    return {"train": first.at(train), "val": first.at(val), "test": test}


def _from_table(table: np.ndarray) -> LabelledImages:
    images = np.ascontiguousarray(table[:, :-1]).reshape(-1, IMAGE_SIZE, IMAGE_SIZE)
    return LabelledImages(torch.from_numpy(images), torch.from_numpy(table[:, -1].astype(np.int64)))


def _read_amat(archive: zipfile.ZipFile, name: str) -> LabelledImages:
    with archive.open(name) as lines:
        return _from_table(np.loadtxt(lines, dtype=np.float32))


def _read_idx(path: Path) -> np.ndarray:
    """Read an array of bytes: its fourth byte counts the dimensions, then come their sizes."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    dimensions = content[3]
    shape = np.frombuffer(content, dtype=">i4", count=dimensions, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)
