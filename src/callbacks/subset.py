"""Fixed subsets of the training, validation and test data of a trainer."""

from lightning import LightningDataModule, Trainer
from lightning.pytorch.plugins import HalfPrecision
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities.model_helpers import is_overridden

from src.data.samples import Batch, first_loader, first_samples, spread_samples
from src.measures import preserved_rng


def fixed_subset(trainer: Trainer, split: str, num_samples: int) -> list[Batch]:
    """At most so many samples of the ``train``, ``val`` or ``test`` data, the same in every call.

    Of validation data the first samples; of training and test data samples at equal distances,
    the first and the last among them, without augmentation. They come from the trainer's data
    module, or else from the loaders given to the trainer; of several loaders the first counts. A
    shuffled loader's data set is read in its own order. Random states stay as they were.

    Returns:
        Batches as the loader gives them (tensors, or tuples of tensors), on the module's device
        and in its precision, but not in half; empty where there are no such data.
    """
    hook = f"{split}_dataloader"
    if split == "test":
        loaders = trainer.test_dataloaders
    elif trainer.datamodule and is_overridden(hook, trainer.datamodule, LightningDataModule):
        loaders = getattr(trainer.datamodule, hook)()
    else:
        loaders = trainer.val_dataloaders if split == "val" else trainer.train_dataloader
    loader = first_loader(loaders)
    if loader is None:
        return []
    read = first_samples if split == "val" else spread_samples
    with preserved_rng():
        return _given(trainer, read(loader, num_samples))


def training_sample(trainer: Trainer, num_samples: int, seed: int = 0) -> list[Batch]:
    """Training samples, augmented as in training, by the data module's ``sample_training``.

    The same in every call, on the module's device, in the precision of `fixed_subset`. Of data
    without that method the `fixed_subset`, not augmented. Random states stay as they were.
    """
    sample = getattr(trainer.datamodule, "sample_training", None)
    if sample is None:
        return fixed_subset(trainer, "train", num_samples)
    with preserved_rng():
        return _given(trainer, sample(num_samples, seed))


def _given(trainer: Trainer, batches: list[Batch]) -> list[Batch]:
    """Batches as the network gets them, not augmented; for one of half precision not rounded."""
    precision, move = trainer.precision_plugin, trainer.strategy.batch_to_device
    convert = (
        (lambda batch: batch) if isinstance(precision, HalfPrecision) else precision.convert_input
    )
    stage = trainer.state.stage
    if trainer.training:  # hooks of the data module may augment training batches
        trainer.state.stage = RunningStage.VALIDATING
    try:
        return [move(convert(batch)) for batch in batches]
    finally:
        trainer.state.stage = stage
