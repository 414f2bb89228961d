import logging
from types import SimpleNamespace

import pytest
import torch

from src.utils.epoch_log import EpochLog


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
    lines = {}
    for name in ("file_only", "src.utils.epoch_log"):
        handler = Records()
        lines[name] = handler.lines
        monkeypatch.setattr(logging.getLogger(name), "handlers", [handler])
        monkeypatch.setattr(logging.getLogger(name), "level", logging.INFO)
    return lines


@pytest.mark.parametrize(
    ("terminal", "bar", "name"),
    [
        (True, object(), "file_only"),
        (True, None, "src.utils.epoch_log"),
        (False, object(), "src.utils.epoch_log"),
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
