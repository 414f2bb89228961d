"""The data module in the hands of a Trainer."""

import torch
from lightning import LightningModule, Trainer

from src.data.smoke.datamodule import SmokeDataModule
from tests.helpers.fake_plumes import tiny_plumes


class Recorder(LightningModule):
    """Keeps the shapes of the batches that it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch):
        """Keep the shape."""
        self.seen.append(("train", tuple(batch.shape)))
        return self.weight * batch.mean()

    def validation_step(self, batch):
        """Keep the shape."""
        self.seen.append(("val", tuple(batch.shape)))

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        """Keep name and shape."""
        name = self.trainer.datamodule.test_names[dataloader_idx]
        self.seen.append((name, tuple(batch.shape)))

    def configure_optimizers(self):
        """Plain descent."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_trainer_generates_trains_and_tests(fake_simulation, tmp_path):
    data = SmokeDataModule(
        *(tmp_path, "tiny", tiny_plumes(), 24, 0.5),
        {"train": 2, "val": 1, "future": 1, "domain": 2},
        resolution=16,
        num_inputs=2,
        train_horizon=2,
        test_horizon=3,
        split="side",
        held_out_side=1,
        batch_size=8,
    )
    module = Recorder()
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)
    assert fake_simulation.steps == 24
    epoch = [("train", (6, 4, 2, 16, 16)), ("val", (3, 4, 2, 16, 16))]
    tests = [("future", (3, 5, 2, 16, 16)), ("domain", (2, 5, 2, 16, 16))]
    assert module.seen == [*epoch, *epoch, *tests]
