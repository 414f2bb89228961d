"""Fixed subsets of the validation and test data."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lightning import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from src.measures import preserved_rng
from src.measures.equivariance import Batch
from src.utils.figures import spread


def validation_subset(trainer: Trainer, num_samples: int) -> list[Batch]:
    """The first samples of the validation data, in batches on the device trained on.

    They come from the trainer's data module, or else from the loaders given to ``fit``; of
    several loaders the first counts. A shuffled loader's data set is read in its own order.
    Batches pass the hooks that validation batches pass. Random states stay as they were.

    Args:
        trainer: a trainer that is fitting.
        num_samples: at most so many samples; all, if there are fewer.

    Returns:
        Batches as the loader gives them (tensors, or tuples of tensors), on the module's device
        and in its precision; empty where there are no validation data.
    """
    loader = _validation_loader(trainer)
    if loader is None:
        return []
    with preserved_rng(), _validating(trainer):
        return _read(trainer, loader, range(num_samples), num_samples)


def spread_test_subset(trainer: Trainer, num_samples: int) -> list[Batch]:
    """Samples at equal distances over the test data, the first and the last among them.

    Of several loaders the first counts. The rest is as in `validation_subset`, but that loaders
    of other kinds than torch's give their first samples.

    Args:
        trainer: a trainer that is testing.
        num_samples: at most so many samples; all, if there are fewer.
    """
    loader = _first_loader(trainer.test_dataloaders)
    if loader is None:
        return []
    size = len(loader.dataset) if _has_indices(loader) else num_samples
    with preserved_rng():
        return _read(trainer, loader, spread(size, num_samples), num_samples)


@contextmanager
def _validating(trainer: Trainer) -> Iterator[None]:
    """Let hooks of the data module see a trainer that validates: they may augment otherwise."""
    stage = trainer.state.stage
    trainer.state.stage = RunningStage.VALIDATING
    try:
        yield
    finally:
        trainer.state.stage = stage


def _validation_loader(trainer: Trainer) -> Iterable[Batch] | None:
    datamodule = trainer.datamodule
    if datamodule is not None and is_overridden("val_dataloader", datamodule, LightningDataModule):
        return _first_loader(datamodule.val_dataloader())
    return _first_loader(trainer.val_dataloaders)


def _first_loader(loaders: Any) -> Iterable[Batch] | None:
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if isinstance(loaders, list | tuple):
        return loaders[0] if loaders else None
    return loaders


def _has_indices(loader: Any) -> bool:
    """Whether samples can be taken from a loader's data set in any order."""
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


def _read(trainer: Trainer, loader: Any, indices: Sequence[int], most: int) -> list[Batch]:
    """At most so many samples, on the module's device and in its precision."""
    batches = _first_samples(_in_order(loader, indices), most)
    return [
        trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
        for batch in batches
    ]


def _in_order(loader: Any, indices: Sequence[int]) -> Iterable[Batch]:
    """Read a data loader's data set at these indices, without shuffling and worker processes."""
    if not _has_indices(loader):
        return loader
    indices = [index for index in indices if index < len(loader.dataset)]
    batch_size = loader.batch_size or max(len(indices), 1)
    return DataLoader(Subset(loader.dataset, indices), batch_size, collate_fn=loader.collate_fn)


def _first_samples(batches: Iterable[Batch], num_samples: int) -> list[Batch]:
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
