import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from src.callbacks import pictures
from src.callbacks.checkpoints import AtomicCheckpointIO, BestAndLastCheckpoint
from tests.helpers import windows
from tests.helpers.tiny import lightning_warnings
from tests.helpers.walking import Walking


def pytest_itemcollected(item):
    item.add_marker(lightning_warnings)


@pytest.fixture
def drawn(monkeypatch):
    """File names of the pictures of weights, which are not written (that takes long)."""
    names = []
    monkeypatch.setattr(pictures, "log_figure", lambda *args: names.append(args[3].name))
    return names


@pytest.fixture
def make_trainer(tmp_path):
    def make(callbacks, *, folder=tmp_path, **options):
        defaults = {"max_epochs": 2, "log_every_n_steps": 1, "logger": CSVLogger(folder, "csv", "")}
        return windows.make_trainer(folder, callbacks=callbacks, **{**defaults, **options})

    return make


@pytest.fixture
def walk(make_trainer, tmp_path):
    """Train for epochs of 4 batches; the callback and the trainer."""

    def walk(*callbacks, module=None, resume=False, **options):
        kept = BestAndLastCheckpoint(str(tmp_path), "val/score", "max")
        options = {"max_epochs": 4, "logger": False, "enable_checkpointing": True} | options
        plugins, path = [AtomicCheckpointIO()], tmp_path / "last.ckpt" if resume else None
        trainer = make_trainer([kept, *callbacks], plugins=plugins, **options)
        loader = DataLoader(torch.zeros(4, 1))
        trainer.fit(module or Walking(), loader, loader, ckpt_path=path, weights_only=True)
        return kept, trainer

    return walk
