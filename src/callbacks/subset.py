"""A fixed subset of the validation data."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader, IterableDataset, Subset

from src.measures import preserved_rng
from src.measures.equivariance import Batch


def validation_subset(trainer: Trainer, num_samples: int) -> list[Batch]:
    """The first samples of the validation data, in batches on the device trained on.

    They come from the trainer's data module, or else from the loaders given to ``fit``; of
    several loaders the first counts. A shuffled loader's data set is read in its own order.
    Batches pass the hooks that validation batches pass. Random states stay as they were.

    Args:
        trainer: a trainer that is fitting.
        num_samples: at most so many samples; all, if there are fewer.

    Returns:
        Batches as the loader gives them, on the module's device and in its precision; empty
        where there are no validation data.
    """
    loader = _validation_loader(trainer)
    if loader is None:
        return []
    with preserved_rng(), _validating(trainer):
        batches = _first_samples(_in_order(loader, num_samples), num_samples)
        return [
            trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
            for batch in batches
        ]


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
        loaders = datamodule.val_dataloader()
    else:
        loaders = trainer.val_dataloaders
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if isinstance(loaders, list | tuple):
        return loaders[0] if loaders else None
    return loaders


def _in_order(loader: Any, num_samples: int) -> Iterable[Batch]:
    """Read a data loader's data set from its start, without shuffling and worker processes."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return loader
    size = min(num_samples, len(loader.dataset))
    batch_size = loader.batch_size or max(size, 1)
    return DataLoader(Subset(loader.dataset, range(size)), batch_size, collate_fn=loader.collate_fn)


def _first_samples(batches: Iterable[Batch], num_samples: int) -> list[Batch]:
    """Batches up to the given number of samples, the last one cut."""
    chosen, missing = [], num_samples
    for batch in batches:
        parts = batch if isinstance(batch, list | tuple) else (batch,)
        chosen.append(tuple(part[:missing] for part in parts))
        missing -= len(chosen[-1][0])
        if missing <= 0:
            break
    return chosen
