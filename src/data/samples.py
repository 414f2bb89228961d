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

    A shuffled loader's data set is read in its own order, without worker processes; all of it, if
    there are no more samples. Batches are tensors, or tuples of tensors.
    """
    return _read(loader, range(num_samples), num_samples)


def spread_samples(loader: Iterable[Batch], num_samples: int) -> list[Batch]:
    """Samples at equal distances over a loader's data set, the first and the last among them.

    Loaders of other kinds than torch's give their first samples; else as in `first_samples`.
    """
    size = len(loader.dataset) if _can_index(loader) else num_samples
    return _read(loader, spread(size, num_samples), num_samples)


def spread(size: int, most: int) -> list[int]:
    """At most so many indices below ``size``, at equal distances, first and last among them."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(int)).tolist()


def _can_index(loader: Any) -> bool:
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


def _read(loader: Any, indices: Sequence[int], most: int) -> list[Batch]:
    """Batches of the samples at these indices, or of the first where a loader has no indices."""
    if _can_index(loader):
        indices = [index for index in indices if index < len(loader.dataset)]
        batch_size = loader.batch_size or max(len(indices), 1)
        subset = Subset(loader.dataset, indices)
        loader = DataLoader(subset, batch_size, collate_fn=loader.collate_fn)
    chosen, missing = [], most
    for batch in loader:
        if isinstance(batch, Tensor):
            chosen.append(batch[:missing])
            missing -= len(chosen[-1])
        else:
            chosen.append(tuple(part[:missing] for part in batch))
            missing -= len(chosen[-1][0])
        if missing <= 0:
            break
    return chosen
