import math

import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from src.callbacks import DynamicsCallback, RelaxedWeights
from src.callbacks.checkpoints import BestAndLastCheckpoint
from tests.helpers.tiny import (
    TinyData,
    TinyModule,
    TinyNetwork,
    dynamics_rows,
    lightning_warnings,
    read_metrics,
)

pytestmark = lightning_warnings


class Steps(DynamicsCallback):
    """The number of optimizer steps so far."""

    def measure(self, trainer, pl_module):
        return {"dynamics/steps": float(trainer.global_step)}


def points(folder):
    """(epochs trained, Lightning's epoch, step, value) of every row."""
    return [
        (row["epochs_trained"], row["epoch"], row["step"], row["dynamics/steps"])
        for row in dynamics_rows(folder, "steps")
    ]


@pytest.mark.parametrize(
    ("every", "epochs", "expected"),
    [
        (1, 2, [(0, 0, 0, 0), (1, 0, 2, 3), (2, 1, 5, 6)]),
        (2, 2, [(0, 0, 0, 0), (2, 1, 5, 6)]),
        (2, 3, [(0, 0, 0, 0), (2, 1, 5, 6), (3, 2, 8, 9)]),  # the last epoch is no multiple
        (9, 2, [(0, 0, 0, 0), (2, 1, 5, 6)]),
    ],
)
def test_rows_at_the_start_every_k_epochs_and_the_end(
    make_trainer, tmp_path, every, epochs, expected
):
    callback = Steps(every_n_epochs=every)
    trainer = make_trainer([callback], max_epochs=epochs)
    trainer.fit(TinyModule(TinyNetwork()), datamodule=TinyData())
    assert points(tmp_path) == expected
    assert callback.start_values == {"dynamics/steps": 0.0}
    assert trainer.callback_metrics["dynamics/steps"] == 3 * epochs
    assert trainer.callback_metrics["epochs_trained"] == epochs


def test_values_of_earlier_epochs_do_not_stay_in_callback_metrics(make_trainer):
    class Probe(Callback):
        def __init__(self):
            self.seen = []

        def on_train_epoch_end(self, trainer, pl_module):
            metrics = trainer.callback_metrics
            self.seen.append(metrics.get("dynamics/steps"))
            assert ("epochs_trained" in metrics) == ("dynamics/steps" in metrics)
            assert "val/loss" in metrics

    probe = Probe()
    trainer = make_trainer([Steps(every_n_epochs=2), probe], max_epochs=5)
    trainer.fit(TinyModule(TinyNetwork()), datamodule=TinyData())
    assert probe.seen == [None, 6, None, 12, 15]


@pytest.mark.parametrize("limit", [{"max_steps": 4, "max_epochs": -1}, {"max_epochs": 9}])
def test_the_end_is_measured_wherever_training_stops(make_trainer, tmp_path, limit):
    """By a number of steps in the middle of an epoch, or by early stopping after two epochs."""
    stop = EarlyStopping("val/loss", patience=1, min_delta=1e9)
    trainer = make_trainer([Steps(every_n_epochs=5), stop], **limit)
    trainer.fit(TinyModule(TinyNetwork()), datamodule=TinyData())
    last = trainer.global_step
    assert last == (4 if "max_steps" in limit else 6)
    assert points(tmp_path) == [(0, 0, 0, 0), (2, 1, last - 1, last)]
    assert trainer.callback_metrics["dynamics/steps"] == last
    assert trainer.callback_metrics["epochs_trained"] == 2


def test_an_early_stop_at_a_multiple_is_not_measured_twice(make_trainer, tmp_path):
    stop = EarlyStopping("val/loss", patience=1, min_delta=1e9)
    trainer = make_trainer([Steps(every_n_epochs=2), stop], max_epochs=9)
    trainer.fit(TinyModule(TinyNetwork()), datamodule=TinyData())
    assert [row[0] for row in points(tmp_path)] == [0, 2]


def make_checkpoint(kind, folder):
    """Lightning's checkpoint in the hook that ends an epoch, or the project's after it."""
    if kind == "lightning":
        return ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True)
    return BestAndLastCheckpoint(folder, monitor="val/loss", mode="min")


@pytest.fixture(params=["lightning", "project"])
def train(request, make_trainer, tmp_path):
    """Train up to an epoch, from the last checkpoint if there is one; rows in a new folder."""

    def run(callback, max_epochs, part):
        path = tmp_path / "checkpoints" / "last.ckpt"
        checkpoint = make_checkpoint(request.param, path.parent)
        trainer = make_trainer(
            [callback, checkpoint],
            max_epochs=max_epochs,
            folder=tmp_path / part,
            enable_checkpointing=True,
        )
        resume = {"ckpt_path": path, "weights_only": True} if path.exists() else {}
        trainer.fit(TinyModule(TinyNetwork()), datamodule=TinyData(), **resume)

    return run


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_resumed_run_logs_nothing_twice(train, tmp_path):
    """Its rows continue those of the first part, its start values are the first part's."""
    train(Steps(2), 3, "first")
    assert [row[0] for row in points(tmp_path / "first")] == [0, 2, 3]
    callback = Steps(2)
    train(callback, 5, "second")
    assert points(tmp_path / "second") == [(4, 3, 11, 12), (5, 4, 14, 15)]
    assert callback.start_values == {"dynamics/steps": 0.0}


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_resuming_a_finished_run_logs_nothing(train, tmp_path):
    train(Steps(2), 2, "first")
    train(Steps(2), 2, "second")
    assert points(tmp_path / "second") == []


@pytest.mark.parametrize(
    "options",
    [
        {"fast_dev_run": True},
        {"logger": False},
        {"num_sanity_val_steps": 2},
        {"overfit_batches": 1},
        {"limit_val_batches": 0},
    ],
)
def test_other_kinds_of_runs(make_trainer, options):
    callback = Steps()
    trainer = make_trainer([callback], **options)
    data = TinyData()
    trainer.fit(TinyModule(TinyNetwork()), datamodule=data)
    assert callback.start_values == {"dynamics/steps": 0.0}
    assert trainer.callback_metrics["dynamics/steps"] == trainer.global_step > 0


def test_sanity_checking_adds_no_rows(make_trainer, tmp_path):
    trainer = make_trainer([Steps()], num_sanity_val_steps=2)
    trainer.fit(TinyModule(TinyNetwork()), datamodule=TinyData())
    assert [row[0] for row in points(tmp_path)] == [0, 1, 2]


def test_nothing_measured_means_nothing_logged(make_trainer, tmp_path):
    class Nothing(DynamicsCallback):
        def measure(self, trainer, pl_module):
            return {}

    callback = Nothing()
    trainer = make_trainer([callback])
    trainer.fit(TinyModule(TinyNetwork()), datamodule=TinyData())
    assert not any("epochs_trained" in row for row in read_metrics(tmp_path))
    assert callback.start_values == {}


def test_measuring_does_not_change_training(make_trainer, tmp_path):
    class Probe(Callback):
        def on_train_end(self, trainer, pl_module):
            self.weights = [p.clone() for p in pl_module.parameters()]
            self.random = torch.rand(3)

    probes = []
    for callbacks in ([], [RelaxedWeights()]):
        torch.manual_seed(5)
        probes.append(Probe())
        trainer = make_trainer([*callbacks, probes[-1]], folder=tmp_path / str(len(probes)))
        trainer.fit(TinyModule(TinyNetwork("c4")), datamodule=TinyData())
    assert torch.equal(probes[0].random, probes[1].random)
    assert all(torch.equal(*pair) for pair in zip(probes[0].weights, probes[1].weights))


def test_the_base_class_measures_nothing(make_trainer):
    with pytest.raises(NotImplementedError):
        DynamicsCallback().measure(make_trainer([]), TinyModule(TinyNetwork()))


@pytest.mark.parametrize("every", [0, -1, 1.0, True, math.inf])
def test_intervals_are_checked(every):
    with pytest.raises(ValueError, match=f"`every_n_epochs` must be an integer.*got {every}"):
        DynamicsCallback(every_n_epochs=every)
