"""Fixed subsets of the training, validation and test data of a trainer."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from lightning import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities.model_helpers import is_overridden

from src.data.samples import Batch, first_loader, first_samples, spread_samples
from src.measures import preserved_rng


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
        return _moved(trainer, first_samples(loader, num_samples))


def training_subset(trainer: Trainer, num_samples: int) -> list[Batch]:
    """Samples at equal distances over the training data, as they are without augmentation.

    The rest is as in `validation_subset`.
    """
    datamodule = trainer.datamodule
    has_own = datamodule is not None and is_overridden(
        "train_dataloader", datamodule, LightningDataModule
    )
    loader = first_loader(datamodule.train_dataloader() if has_own else trainer.train_dataloader)
    if loader is None:
        return []
    with preserved_rng(), _validating(trainer):
        return _moved(trainer, spread_samples(loader, num_samples))


def spread_test_subset(trainer: Trainer, num_samples: int) -> list[Batch]:
    """Samples at equal distances over the test data, the first and the last among them.

    Of several loaders the first counts. The rest is as in `validation_subset`, but that loaders
    of other kinds than torch's give their first samples.

    Args:
        trainer: a trainer that is testing.
        num_samples: at most so many samples; all, if there are fewer.
    """
    loader = first_loader(trainer.test_dataloaders)
    if loader is None:
        return []
    with preserved_rng():
        return _moved(trainer, spread_samples(loader, num_samples))


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
        return first_loader(datamodule.val_dataloader())
    return first_loader(trainer.val_dataloaders)


def _moved(trainer: Trainer, batches: list[Batch]) -> list[Batch]:
    """Batches on the module's device and in its precision."""
    return [
        trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
        for batch in batches
    ]
