"""Fixed samples of a data loader: the first ones, or ones at equal distances."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

Batch = Tensor | Sequence[Tensor]


def first_loader(loaders: Any) -> Iterable[Batch] | None:
    """A loader; of several ones, in a list or by name, the first; None where there is none."""
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if isinstance(loaders, list | tuple):
        return loaders[0] if loaders else None
    return loaders


def first_samples(loader: Iterable[Batch], num_samples: int) -> list[Batch]:
    """The first samples of a loader's data set, in the loader's batches, the last one cut.

    A shuffled loader's data set is read in its own order, without worker processes.

    Args:
        loader: its batches are tensors, or tuples of tensors.
        num_samples: at most so many; all, if there are fewer.
    """
    return _read(loader, range(num_samples), num_samples)


def spread_samples(loader: Iterable[Batch], num_samples: int) -> list[Batch]:
    """Samples at equal distances over a loader's data set, the first and the last among them.

    Loaders of other kinds than torch's give their first samples. The rest is as in
    `first_samples`.
    """
    size = len(loader.dataset) if _has_indices(loader) else num_samples
    return _read(loader, spread(size, num_samples), num_samples)


def _has_indices(loader: Any) -> bool:
    """Whether samples can be taken from a loader's data set in any order."""
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


def _read(loader: Any, indices: Sequence[int], most: int) -> list[Batch]:
    return _cut(_in_order(loader, indices), most)


def _in_order(loader: Any, indices: Sequence[int]) -> Iterable[Batch]:
    """Read a data loader's data set at these indices, without shuffling and worker processes."""
    if not _has_indices(loader):
        return loader
    indices = [index for index in indices if index < len(loader.dataset)]
    batch_size = loader.batch_size or max(len(indices), 1)
    return DataLoader(Subset(loader.dataset, indices), batch_size, collate_fn=loader.collate_fn)


def _cut(batches: Iterable[Batch], num_samples: int) -> list[Batch]:
    """Batches up to the given number of samples, the last one cut."""
    chosen, missing = [], num_samples
    for batch in batches:
        if isinstance(batch, Tensor):
            chosen.append(batch[:missing])
            missing -= len(chosen[-1])
        else:
            chosen.append(tuple(part[:missing] for part in batch))
            missing -= len(chosen[-1][0])
        if missing <= 0:
            break
    return chosen


def spread(size: int, most: int) -> list[int]:
    """At most so many indices below ``size``, at equal distances, first and last among them."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(int)).tolist()
