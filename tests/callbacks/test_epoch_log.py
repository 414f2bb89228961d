import logging
from types import SimpleNamespace

import pytest
import torch

from src.callbacks.epoch_log import EpochLog


class Records(logging.Handler):
    """Keeps what a logger is given."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.fixture
def logged(monkeypatch):
    """The lines that the log file alone, and that the console too is given."""
    lines, levels = {}, {}
    for name in ("file_only", "src.callbacks.epoch_log"):
        handler, logger = Records(), logging.getLogger(name)
        lines[name], levels[name] = handler.lines, logger.level
        monkeypatch.setattr(logger, "handlers", [handler])
        logger.setLevel(logging.INFO)  # not by hand: a logger remembers what it has let through
    yield lines
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize(
    ("terminal", "bar", "name"),
    [
        (True, object(), "file_only"),
        (True, None, "src.callbacks.epoch_log"),
        (False, object(), "src.callbacks.epoch_log"),
    ],
)
def test_an_epoch_is_one_line_where_it_is_read(logged, monkeypatch, terminal, bar, name):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    metrics = {"train/loss": torch.tensor(0.25), "val/acc": torch.tensor(0.5), "other": 1.0}
    trainer = SimpleNamespace(
        callback_metrics=metrics, current_epoch=1, max_epochs=5, progress_bar_callback=bar
    )
    EpochLog().on_train_epoch_end(trainer, None)
    (other,) = logged.keys() - {name}
    assert logged[name] == ["Epoch 2/5: train/loss 0.2500, val/acc 0.5000"]
    assert logged[other] == []


def test_the_error_of_forecasts_is_told(logged):
    metrics = {"val/rmse": torch.tensor(0.5), "train/loss": torch.tensor(2.0)}
    trainer = SimpleNamespace(
        callback_metrics=metrics, current_epoch=0, max_epochs=1, progress_bar_callback=None
    )
    EpochLog().on_train_epoch_end(trainer, None)
    assert logged["src.callbacks.epoch_log"] == ["Epoch 1/1: train/loss 2.0000, val/rmse 0.5000"]
