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
    WeightPath,
)
from tests.helpers.tiny import TinyData, TinyModule, TinyNetwork

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
    for make, options, match in (
        (BestAndLastCheckpoint, {"first_epoch": -1}, "`first_epoch` must be .*0; got -1"),
        (BestAndLastCheckpoint, {"mode": "best"}, "`mode` must be one of max, min; got 'best'"),
        (WeightPath, {"every_n_epochs": 0}, "`every_n_epochs` must be .* at least 1; got 0"),
        (WeightPath, {"steps": [3, 0]}, "`steps` must be an integer of at least 1; got 0"),
    ):
        with pytest.raises(ValueError, match=match):
            make("checkpoints", **options)
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


class Remembering(TinyModule):
    def __init__(self):
        super().__init__(TinyNetwork("c4"))
        self.seen = {}

    def on_train_batch_end(self, *_):
        state = {name: tensor.clone() for name, tensor in self.state_dict().items()}
        self.seen[self.trainer.global_step] = state

    on_train_start = on_train_batch_end

    def on_save_checkpoint(self, checkpoint):
        checkpoint["relaxation"] = {"blocks.1": 0.5}


@pytest.mark.parametrize("fast", [False, True])
def test_weights_are_kept_at_the_start_every_k_epochs_at_steps_and_the_end(
    make_trainer, tmp_path, fast
):
    module, callback = Remembering(), WeightPath(str(tmp_path), every_n_epochs=2, steps=[1, 6, 7])
    options = {"logger": False, "max_epochs": 3, "fast_dev_run": fast}
    trainer = make_trainer([callback, StoredConfig({"seed": 0})], **options)
    trainer.fit(module, datamodule=TinyData())
    expected = {} if fast else {0: 0.0, 1: 1 / 3, 6: 2.0, 7: 2 + 1 / 3, 9: 3.0}  # 3 steps an epoch
    files = sorted((tmp_path / "path").glob("*"))
    assert [file.name for file in files] == [f"step_{step:08d}.ckpt" for step in expected]
    for (step, epochs), file in zip(expected.items(), files):
        checkpoint = torch.load(file, weights_only=True)
        names = ("global_step", "epochs_trained", "config", "relaxation")
        expected = [step, pytest.approx(epochs), {"seed": 0}, {"blocks.1": 0.5}]
        assert [checkpoint[name] for name in names] == expected
        state = module.seen[step]
        assert all(torch.equal(t, state[name]) for name, t in checkpoint["state_dict"].items())
