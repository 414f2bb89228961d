"""The data module in the hands of a Trainer."""

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from src.data.rotmnist.datamodule import RotatedMNISTDataModule

# Lightning 2.6 builds a tree specification that newer versions of torch call deprecated.
in_a_trainer = pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"
)


class Recorder(LightningModule):
    """Keeps the batches that it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {"train": {}, "val": {}, "test": {}}

    def _record(self, split, batch):
        self.seen[split].setdefault(self.current_epoch, []).append(batch[0].clone())
        return self.weight * batch[0].mean()

    def training_step(self, batch):
        torch.rand(3)  # a network may use the global random state
        return self._record("train", batch)

    def validation_step(self, batch):
        self._record("val", batch)

    def test_step(self, batch):
        self._record("test", batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(tmp_path, **options):
    return Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_train_batches=3,
        limit_val_batches=2,
        limit_test_batches=2,
        **{"enable_checkpointing": False, **options},
    )


def epoch_of(module, split, epoch):
    return torch.cat(module.seen[split][epoch])


@in_a_trainer
def test_a_trainer_augments_training_batches_alone(bundled, bundled_dir, tmp_path):
    module, data = Recorder(), RotatedMNISTDataModule(bundled_dir, augment=True)
    fitting = trainer(tmp_path, max_epochs=2)
    fitting.fit(module, data)
    fitting.test(module, data, verbose=False)
    unchanged = torch.cat([images for images, _ in bundled.val_dataloader()])[:128]
    assert torch.equal(epoch_of(module, "val", 1), unchanged)
    assert torch.equal(
        torch.cat(module.seen["test"][2]), bundled.test_dataloader().dataset.images[:128]
    )
    loader = bundled.train_dataloader()
    loader.sampler.set_epoch(1)
    raw = torch.cat([images for images, _ in loader])[:192]
    assert not torch.allclose(epoch_of(module, "train", 1), raw)


@in_a_trainer
def test_a_second_fit_with_the_same_data_module_repeats_the_first(bundled_dir, tmp_path):
    data = RotatedMNISTDataModule(bundled_dir, augment=True)
    modules = Recorder(), Recorder()
    for module in modules:
        trainer(tmp_path, max_epochs=1).fit(module, data)
    assert torch.equal(*(epoch_of(module, "train", 0) for module in modules))


@in_a_trainer
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("at_end_of_training_epoch", [True, False])
def test_a_resumed_run_sees_the_same_batches(bundled_dir, tmp_path, at_end_of_training_epoch):
    def fit(max_epochs, ckpt_path=None, **options):
        module, data = Recorder(), RotatedMNISTDataModule(bundled_dir, augment=True, seed=3)
        fitting = trainer(tmp_path, max_epochs=max_epochs, **options)
        fitting.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
        return module

    keep = ModelCheckpoint(
        tmp_path / "kept", save_last=True, save_on_train_epoch_end=at_end_of_training_epoch
    )
    whole = fit(3)
    fit(1, enable_checkpointing=True, callbacks=[keep])
    resumed = fit(3, keep.last_model_path)
    assert sorted(resumed.seen["train"]) == [1, 2]
    for epoch in (1, 2):
        assert torch.equal(epoch_of(whole, "train", epoch), epoch_of(resumed, "train", epoch))


@in_a_trainer
def test_overfitting_repeats_the_same_batches(bundled_dir, tmp_path):
    module, data = Recorder(), RotatedMNISTDataModule(bundled_dir)
    trainer(tmp_path, max_epochs=2, overfit_batches=1).fit(module, data)
    assert torch.equal(epoch_of(module, "train", 0), epoch_of(module, "train", 1))
