import pytest
from lightning.pytorch.loggers import CSVLogger

from src.callbacks import pictures
from tests.helpers import windows
from tests.helpers.tiny import lightning_warnings


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
