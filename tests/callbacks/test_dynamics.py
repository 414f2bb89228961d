from math import ceil

import pytest
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from src.callbacks import DynamicsCallback
from src.callbacks.checkpoints import BestAndLastCheckpoint
from tests.helpers.tiny import TinyData, TinyModule, TinyNetwork, dynamics_rows


class Steps(DynamicsCallback):
    def measure(self, trainer, pl_module):
        return {"dynamics/steps": float(trainer.global_step)}


class Metrics(Callback):
    def __init__(self):
        self.seen = []

    def on_train_epoch_end(self, trainer, pl_module):
        metrics = trainer.callback_metrics
        self.seen.append(metrics.get("dynamics/steps"))
        assert ("epochs_trained" in metrics) == ("dynamics/steps" in metrics)
        assert "val/loss" in metrics


def points(folder):
    names = ("epochs_trained", "epoch", "step", "dynamics/steps")
    return [tuple(row[name] for name in names) for row in dynamics_rows(folder, "steps")]


ROWS = [(2, 1, 5, 6), (4, 3, 11, 12), (5, 4, 14, 15)]


@pytest.mark.parametrize(
    ("every", "limit", "expected"),
    [
        (1, {}, [(1, 0, 2, 3), *ROWS[:1]]),
        (2, {"max_epochs": 5}, ROWS),  # the last is no multiple
        (9, {}, ROWS[:1]),
        (5, {"max_steps": 4, "max_epochs": -1}, [(4 / 3, 1, 3, 4)]),  # in the middle of an epoch
        (5, {"max_epochs": 9}, ROWS[:1]),  # by early stopping after two epochs
        (2, {"max_epochs": 9}, ROWS[:1]),  # at a multiple of k, which is not measured twice
    ],
)
def test_rows_at_the_start_every_k_epochs_and_the_end(
    make_trainer, tmp_path, every, limit, expected
):
    callback, metrics, early = Steps(every), Metrics(), limit.get("max_epochs") == 9
    stop = EarlyStopping("val/loss", patience=1 if early else 9, min_delta=1e9)
    trainer = make_trainer([callback, metrics, stop], **limit)
    trainer.fit(TinyModule(TinyNetwork()), datamodule=TinyData())
    assert points(tmp_path) == [(0, 0, 0, 0), *map(pytest.approx, expected)]
    assert callback.start_values == {"dynamics/steps": 0.0}
    epochs, *_, steps = expected[-1]
    assert trainer.callback_metrics["dynamics/steps"] == steps
    assert trainer.callback_metrics["epochs_trained"] == pytest.approx(epochs)
    measured = {ceil(epoch): value for epoch, *_, value in expected}
    assert early or metrics.seen == [measured.get(epoch + 1) for epoch in range(ceil(epochs))]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("kind", ["lightning", "project"])
def test_a_resumed_run_logs_nothing_twice(make_trainer, tmp_path, kind):
    """Lightning's checkpoint is written in the hook that ends an epoch, the project's after it."""
    path = tmp_path / "checkpoints" / "last.ckpt"

    def train(max_epochs, part):
        checkpoint = BestAndLastCheckpoint(path.parent, monitor="val/loss", mode="min")
        if kind == "lightning":
            checkpoint = ModelCheckpoint(path.parent, "last", save_on_train_epoch_end=True)
        callback, options = Steps(2), {"max_epochs": max_epochs, "folder": tmp_path / part}
        trainer = make_trainer([callback, checkpoint], enable_checkpointing=True, **options)
        resume = {"ckpt_path": path, "weights_only": True} if path.exists() else {}
        trainer.fit(TinyModule(TinyNetwork()), datamodule=TinyData(), **resume)
        assert callback.start_values == {"dynamics/steps": 0.0}
        return points(tmp_path / part)

    assert [row[0] for row in train(3, "first")] == [0, 2, 3]
    assert train(5, "second") == [(4, 3, 11, 12), (5, 4, 14, 15)]
    assert train(5, "third") == []
