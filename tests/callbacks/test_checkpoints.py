from io import BytesIO
from itertools import chain, repeat
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from lightning import LightningModule
from torch import nn
from torch.utils.data import DataLoader

from src.callbacks.checkpoints import (
    AtomicCheckpointIO,
    BestAndLastCheckpoint,
    StoredConfig,
)
from tests.helpers.walking import Walking, weight_of

NAN = float("nan")


class Scored(LightningModule):
    """Has the validation scores that it is given, one per epoch; its weight is the epoch."""

    def __init__(self, scores):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.scores = scores

    def training_step(self, batch, batch_idx):
        with torch.no_grad():
            self.weight.fill_(self.current_epoch)
        return self.weight * 0

    def validation_step(self, batch, batch_idx):
        self.log("val/score", self.scores[self.current_epoch])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)


@pytest.fixture
def fit(make_trainer, tmp_path):
    def fit(scores, mode="max", monitor="val/score", resume=False, first_epoch=0, **options):
        kept = BestAndLastCheckpoint(str(tmp_path), monitor, mode, first_epoch)
        options |= {"max_epochs": len(scores), "logger": False, "enable_checkpointing": True}
        callbacks, plugins = [kept, StoredConfig({"seed": 0})], [AtomicCheckpointIO()]
        loader, path = DataLoader(torch.zeros(2, 1)), tmp_path / "last.ckpt" if resume else None
        trainer = make_trainer(callbacks, plugins=plugins, **options)
        trainer.fit(Scored(scores), loader, loader, ckpt_path=path, weights_only=True)
        return kept

    return fit


def epochs_of(folder):
    """The epochs of the best checkpoint and the last one, the only files."""
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    files = (torch.load(folder / f"{n}.ckpt", weights_only=True) for n in ("best", "last"))
    return tuple(int(file["state_dict"]["weight"]) for file in files)


@pytest.mark.parametrize(
    ("scores", "options", "best"),
    [
        ([0.1, 0.3, 0.2], {}, 1),
        ([0.3, 0.1, 0.2], {"mode": "min"}, 1),
        ([0.3, 0.3, 0.3], {}, 0),
        ([NAN, 0.1, NAN], {}, 1),
        ([0.9, 0.1, 0.9, 0.2], {"check_val_every_n_epoch": 2}, 3),  # only scores of the epoch
        *(([0.9, 0.2, 0.3, 0.1], {"first_epoch": e}, best) for e, best in ((1, 2), (3, 3), (9, 3))),
        ([NAN] * 2, {}, None),
        ([1, 2], {"limit_val_batches": 0}, None),
        ([0.9] * 9, {"first_epoch": 3, "max_steps": 4}, None),  # two epochs
        ([0.1], {"fast_dev_run": True}, None),
    ],
)
def test_best_where_there_is_a_score_and_last_are_kept(fit, tmp_path, scores, options, best):
    kept, last = fit(scores, **options), len(scores) - 1
    if best is None:
        files = [] if "fast_dev_run" in options else ["last.ckpt"]
        assert ([path.name for path in tmp_path.iterdir()], kept.best_model_path) == (files, "")
        return
    assert epochs_of(tmp_path) == (kept.best["epoch"], kept.last["epoch"]) == (best, last)
    assert kept.best_model_path == str(tmp_path / "best.ckpt")
    assert kept.best["metrics"]["val/score"] == pytest.approx(scores[best])


@pytest.mark.parametrize(("first_epoch", "before", "after"), [(0, 0, 0), (2, 1, 3)])
def test_a_resumed_run_keeps_the_old_best(fit, tmp_path, first_epoch, before, after):
    """But a longer run forgets one before the first epoch."""
    fit([0.9, 0.8], first_epoch=first_epoch)
    assert epochs_of(tmp_path) == (before, 1)
    kept = fit([0.9, 0.8, 0.1, 0.2], resume=True, first_epoch=first_epoch)
    assert epochs_of(tmp_path) == (kept.best["epoch"], 3) == (after, 3)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["config"] == {"seed": 0}
    assert str(tmp_path) not in repr(checkpoint)


def test_arguments_are_checked(fit):
    for options, match in (
        ({"first_epoch": -1}, "`first_epoch` must be .*0; got -1"),
        ({"mode": "best"}, "`mode` must be one of max, min; got 'best'"),
    ):
        with pytest.raises(ValueError, match=match):
            BestAndLastCheckpoint("checkpoints", "val/acc", **options)
    with pytest.raises(ValueError, match=r"must name a logged metric; got 'val/acc'.*val/score"):
        fit([0.1], monitor="val/acc")


def test_a_kill_while_saving_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    plugin, path = AtomicCheckpointIO(), tmp_path / "new" / "a.ckpt"
    plugin.save_checkpoint({"a": 1}, path)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(Path, "replace", Mock(side_effect=KeyboardInterrupt))
        plugin.save_checkpoint({"a": 2}, path)
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert [path.name for path in path.parent.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(0), OSError("no room")])
def test_what_ends_a_process_while_it_saves_is_not_taken_for_an_error(tmp_path, monkeypatch, end):
    buffer = type("Cut", (BytesIO,), {"write": Mock(side_effect=chain([0, 0, end], repeat(0)))})
    monkeypatch.setattr("src.callbacks.checkpoints.io", Mock(BytesIO=buffer))
    expected = RuntimeError if isinstance(end, OSError) else type(end)
    with pytest.raises(expected):
        AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(1)}, tmp_path / "a.ckpt")


# Options, steps of the best weights, and of the last ones where those are validated.
WALKS = {
    "each epoch": ({}, 4, 16),
    "every second epoch": ({"check_val_every_n_epoch": 2, "max_epochs": 3}, 8, None),
    "twice an epoch": ({"val_check_interval": 2}, 4, 16),
    "three quarters": ({"val_check_interval": 3}, 3, None),
    "in steps": ({"check_val_every_n_epoch": None, "val_check_interval": 7}, 7, None),
    "in steps, later": ({"check_val_every_n_epoch": None, "val_check_interval": 9}, 9, None),
    "gradients of three batches": ({"accumulate_grad_batches": 3, "val_check_interval": 1}, 7, 8),
    "until a step": ({"max_steps": 6, "val_check_interval": 3}, 3, None),
    "steps alone": ({"max_steps": 6, "max_epochs": None, "val_check_interval": 1}, 5, 6),
    "part of the validation": ({"limit_val_batches": 0.5, "max_epochs": 1}, 4, 4),
}


@pytest.mark.parametrize("name", WALKS)
def test_scores_are_of_the_weights_that_are_kept(walk, tmp_path, name):
    """Whenever validation comes; what was not validated has no score."""
    options, best, validated = WALKS[name]
    kept, trainer = walk(**options)
    accumulates = "accumulate_grad_batches" in options  # 2 steps an epoch, the second of one batch
    per_epoch = 2 if accumulates else 4
    for which, record in (("best", kept.best), ("last", kept.last)):
        checkpoint = torch.load(tmp_path / f"{which}.ckpt", weights_only=True)
        weight = checkpoint["state_dict"]["net.weight"].item()
        assert record["step"] == checkpoint["global_step"]
        assert record["epochs_trained"] == checkpoint["epochs_trained"]
        assert accumulates or weight == record["step"] == 4 * record["epochs_trained"]
        score = record["metrics"].get("val/score")
        expected = pytest.approx(-abs(weight - 5), abs=1e-6)
        assert score == (expected if which == "best" or validated else None)
    assert kept.best["step"] == best
    assert kept.last["step"] == trainer.global_step == (validated or trainer.global_step)
    assert "train/loss" in kept.last["metrics"]
    assert ("train/loss" in kept.best["metrics"]) == (kept.best["step"] % per_epoch == 0)


def test_the_best_checkpoint_is_the_one_that_the_last_one_speaks_of(walk, tmp_path, monkeypatch):
    """However a run is killed: a better one of an epoch that will be repeated is left out."""

    class Killed(Walking):
        def on_train_batch_start(self, batch, batch_idx):
            super().on_train_batch_start(batch, batch_idx)
            if self.trainer.global_step == 6:
                raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        walk(module=Killed(), val_check_interval=1)
    assert weight_of(tmp_path / "best.ckpt") == weight_of(tmp_path / "last.ckpt") == 4
    assert (tmp_path / "best_5.new").is_file()
    kept, _ = walk(resume=True, limit_val_batches=0)
    assert weight_of(tmp_path / "best.ckpt") == kept.best["step"] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_the_time_of_all_starts_is_known(walk, monkeypatch):
    clock = Mock(side_effect=range(0, 10_000, 10))
    monkeypatch.setattr("src.callbacks.checkpoints.time", Mock(monotonic=clock))
    first, _ = walk(max_epochs=1)
    second, _ = walk(max_epochs=2, resume=True)
    third, _ = walk(max_epochs=3, resume=True)
    assert first.seconds_before == 0 < second.seconds_before < third.seconds_before
