"""Fixed subsets of the training, validation and test data of a trainer."""

from lightning import LightningDataModule, Trainer
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
        and in its precision; empty where there are no such data.
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
    convert, move = trainer.precision_plugin.convert_input, trainer.strategy.batch_to_device
    stage = trainer.state.stage
    if trainer.training:  # hooks of the data module may augment training batches
        trainer.state.stage = RunningStage.VALIDATING
    try:
        with preserved_rng():
            return [move(convert(batch)) for batch in read(loader, num_samples)]
    finally:
        trainer.state.stage = stage
