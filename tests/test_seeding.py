import random

import numpy as np
import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from src.models.seeded_epochs import SeededEpochs
from src.seeding import seed_epoch, seed_run


@pytest.fixture(autouse=True)
def no_seed_of_other_tests(monkeypatch):
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")  # so that it is taken back
        monkeypatch.delenv(name)


def draws():
    return torch.rand(1).item(), random.random(), np.random.rand()  # noqa: NPY002


def test_zero_is_a_seed():
    assert seed_run(0) == 0
    first = draws()
    seed_run(0)
    assert draws() == first
    seed_run(1)
    assert draws() != first


def test_without_a_seed_one_is_drawn():
    drawn = {seed_run(None) for _ in range(3)}
    assert len(drawn) == 3
    assert all(0 <= seed < 2**32 for seed in drawn)


def test_an_epoch_has_its_own_numbers():
    def numbers(seed, epoch):
        seed_epoch(seed, epoch)
        return draws()

    assert numbers(0, 1) == numbers(0, 1)
    assert len({numbers(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9


class Numbers(Dataset):
    """0 .. 5; with the random number that its process draws with each."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.tensor([float(index), torch.rand(())])


class Recorder(SeededEpochs):
    """Notes its batches and what it draws itself."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch.tolist(), torch.rand(()).item()))
        return self.weight * 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(tmp_path, epochs, workers=0, path=None):
    model = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    data = Numbers()
    sampler = DistributedSampler(data, 1, 0, seed=3)
    loader = DataLoader(data, 2, sampler=sampler, num_workers=workers)
    trainer.fit(model, loader, ckpt_path=path, weights_only=True)
    trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
    return model.seen


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec")
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_resumed_fit_sees_the_batches_and_numbers_of_an_uninterrupted_one(tmp_path, workers):
    seed_run(0)
    whole = fit(tmp_path, 3, workers)
    seed_run(0)
    fit(tmp_path, 2, workers)
    torch.rand(100)  # whatever else happens
    resumed = fit(tmp_path, 3, workers, tmp_path / "2.ckpt")
    assert [epoch for epoch, *_ in resumed] == [2, 2, 2]
    assert resumed == whole[6:]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec")
def test_without_a_seed_the_random_state_is_left_alone(tmp_path):
    torch.manual_seed(5)
    first = fit(tmp_path, 1)
    torch.manual_seed(6)
    assert fit(tmp_path, 1) != first
