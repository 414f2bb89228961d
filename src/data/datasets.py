"""Data sets that are indexed batch by batch."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

Batch = TypeVar("Batch")


class ImageDataset(Dataset):
    """Labelled images in memory, from which a loader takes a whole batch with one index.

    A ``DataLoader`` hands a batch's indices to ``__getitems__`` in one call; with
    ``collate_fn=keep_batch`` nothing is done sample by sample.

    Args:
        images: ``[N, C, H, W]``.
        labels: ``[N]``, int64.

    Raises:
        ValueError: if the numbers of images and labels differ.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        if len(images) != len(labels):
            raise ValueError(
                f"every image needs one label; got {len(images)} images and {len(labels)} labels. "
                "Take both from the same split."
            )
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the images ``[B, C, H, W]`` and labels ``[B]`` at ``indices``."""
        # NumPy reads a list of integers several times faster than torch.tensor does.
        rows = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        return self.images.index_select(0, rows), self.labels.index_select(0, rows)


def keep_batch(batch: Batch) -> Batch:
    """Collate function for a data set that already returns whole batches."""
    return batch
