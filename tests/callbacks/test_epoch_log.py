import logging
from types import SimpleNamespace

import pytest
import torch

from src.callbacks.epoch_log import EpochLog

FILE, BOTH = "file_only", "src.callbacks.epoch_log"


@pytest.mark.parametrize(
    ("terminal", "bar", "name"),
    [(True, object(), FILE), (True, None, BOTH), (False, object(), BOTH)],
)
def test_an_epoch_is_one_line_where_it_is_read(monkeypatch, terminal, bar, name):
    logged = []

    def info(logger, text, *values):
        logged.append((logger.name, text % values))

    monkeypatch.setattr(logging.Logger, "info", info)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    metrics = {"val/rmse": 0.125, "train/loss": 0.25, "val/acc": torch.tensor(0.5), "other": 1.0}
    trainer = SimpleNamespace(callback_metrics=metrics, current_epoch=1, max_epochs=5)
    trainer.progress_bar_callback = bar
    EpochLog().on_train_epoch_end(trainer, None)
    line = "Epoch 2/5: train/loss 0.2500, val/acc 0.5000, val/rmse 0.1250"
    assert logged == [(name, line)]
