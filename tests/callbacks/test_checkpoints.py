import re

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from src.callbacks.checkpoints import AtomicCheckpointIO, BestAndLastCheckpoint, StoredConfig
from src.errors import UserError
from src.runs.checkpoints import load_checkpoint, load_weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]


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


def fit(folder, scores, mode="max", ckpt_path=None, first_epoch=0, **options):
    kept = BestAndLastCheckpoint(str(folder), "val/score", mode, first_epoch)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=len(scores),
        logger=False,
        callbacks=[kept, StoredConfig({"seed": 0})],
        plugins=[AtomicCheckpointIO()],
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
    loader = DataLoader(torch.zeros(2, 1))
    trainer.fit(Scored(scores), loader, loader, ckpt_path=ckpt_path, weights_only=True)
    return kept


def epoch_of(folder, name):
    return int(load_checkpoint(folder / name)["state_dict"]["weight"])


@pytest.mark.parametrize(
    ("scores", "mode", "best"),
    [
        ([0.1, 0.3, 0.2], "max", 1),
        ([0.3, 0.1, 0.2], "min", 1),
        ([0.3, 0.3, 0.3], "max", 0),
        ([float("nan"), 0.1, float("nan")], "max", 1),
    ],
)
def test_best_and_last_are_kept(tmp_path, scores, mode, best):
    kept = fit(tmp_path, scores, mode)
    assert (epoch_of(tmp_path, "best.ckpt"), epoch_of(tmp_path, "last.ckpt")) == (best, 2)
    assert kept.best_model_path == str(tmp_path / "best.ckpt")
    assert kept.best["epoch"] == best
    assert kept.best["metrics"]["val/score"] == pytest.approx(scores[best])
    assert kept.last["epoch"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.parametrize(
    ("first_epoch", "best"),
    [(0, 0), (1, 2), (2, 2), (3, 3), (9, 3)],
)
def test_epochs_before_the_first_are_never_the_best(tmp_path, first_epoch, best):
    kept = fit(tmp_path, [0.9, 0.2, 0.3, 0.1], first_epoch=first_epoch)
    assert epoch_of(tmp_path, "best.ckpt") == kept.best["epoch"] == best


def test_a_longer_run_forgets_a_best_before_the_first_epoch(tmp_path):
    fit(tmp_path, [0.9, 0.8], first_epoch=2)
    assert epoch_of(tmp_path, "best.ckpt") == 1
    kept = fit(tmp_path, [0.9, 0.8, 0.1, 0.2], ckpt_path=tmp_path / "last.ckpt", first_epoch=2)
    assert epoch_of(tmp_path, "best.ckpt") == kept.best["epoch"] == 3


@pytest.mark.parametrize("first_epoch", [-1, 1.5, True])
def test_a_first_epoch_that_is_none_is_refused(first_epoch):
    with pytest.raises(ValueError, match="`first_epoch` must be an integer of at least 0; got"):
        BestAndLastCheckpoint("checkpoints", first_epoch=first_epoch)


def test_without_a_number_there_is_no_best(tmp_path):
    kept = fit(tmp_path, [float("nan")] * 2)
    assert kept.best_model_path == ""
    assert not (tmp_path / "best.ckpt").exists()


def test_only_scores_of_the_epoch_count(tmp_path):
    fit(tmp_path, [0.9, 0.1, 0.9, 0.2], check_val_every_n_epoch=2)
    assert epoch_of(tmp_path, "best.ckpt") == 3


def test_without_validation_the_last_is_kept(tmp_path):
    kept = fit(tmp_path, [0.1, 0.2], limit_val_batches=0)
    assert epoch_of(tmp_path, "last.ckpt") == 1
    assert kept.best_model_path == ""


def test_a_fast_dev_run_writes_nothing(tmp_path):
    fit(tmp_path, [0.1], fast_dev_run=True)
    assert not list(tmp_path.iterdir())


def test_a_resumed_run_keeps_the_old_best(tmp_path):
    fit(tmp_path, [0.1, 0.9])
    kept = fit(tmp_path, [0.1, 0.9, 0.2], ckpt_path=tmp_path / "last.ckpt")
    assert (epoch_of(tmp_path, "best.ckpt"), epoch_of(tmp_path, "last.ckpt")) == (1, 2)
    assert kept.best["epoch"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_checkpoints_hold_the_config_and_no_path(tmp_path):
    fit(tmp_path, [0.1])
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    assert checkpoint["config"] == {"seed": 0}
    assert str(tmp_path) not in repr(checkpoint)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="`mode` must be max or min; got 'best'"):
        BestAndLastCheckpoint("checkpoints", mode="best")


def test_an_unknown_metric_is_refused(tmp_path):
    callback = BestAndLastCheckpoint(str(tmp_path), "val/acc")
    with pytest.raises(ValueError, match=r"must name a logged metric; got 'val/acc'.*val/score"):
        callback._is_best({"val/score": 1.0})


def test_a_kill_while_saving_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    plugin, path = AtomicCheckpointIO(), tmp_path / "new" / "a.ckpt"
    plugin.save_checkpoint({"a": 1}, path)

    def half(value, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.save", half)
    with pytest.raises(KeyboardInterrupt):
        plugin.save_checkpoint({"a": 2}, path)
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert [path.name for path in path.parent.iterdir()] == ["a.ckpt"]


def test_a_missing_checkpoint_is_told(tmp_path):
    with pytest.raises(UserError, match=r"must be an existing file; got .*none.ckpt"):
        load_checkpoint(tmp_path / "none.ckpt")


def test_a_damaged_checkpoint_is_told(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {}, "config": {}}, path)
    whole = path.read_bytes()
    for content in (whole[:100], whole[: len(whole) // 2], b"", b"text", whole[100:]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a.ckpt could not be read .* It is damaged"):
            load_checkpoint(path)


def test_a_checkpoint_that_would_run_code_is_not_read(tmp_path):
    torch.save({"state_dict": {}, "config": re.compile("a")}, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="of another program"):
        load_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("value", [{"state_dict": {}}, [1]])
def test_a_checkpoint_from_elsewhere_is_told(tmp_path, value):
    torch.save(value, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"lacks config.* Use one that src/train.py wrote"):
        load_checkpoint(tmp_path / "a.ckpt")


class Wrapped(LightningModule):
    def __init__(self, *layers):
        super().__init__()
        self.net = nn.Sequential(*layers)


def checkpoint_of(*layers):
    config = {"model": {"net": {"_target_": "some.Network"}}}
    return {"state_dict": Wrapped(*layers).state_dict(), "config": config}


def test_weights_are_loaded():
    checkpoint = checkpoint_of(nn.Linear(2, 3))
    model = Wrapped(nn.Linear(2, 3))
    load_weights(model, checkpoint, "a.ckpt")
    assert torch.equal(model.net[0].weight, checkpoint["state_dict"]["net.0.weight"])


def test_the_model_restores_more_than_weights():
    class Restoring(Wrapped):
        def on_load_checkpoint(self, checkpoint):
            self.restored = checkpoint["more"]

    model = Restoring(nn.Linear(2, 3))
    load_weights(model, checkpoint_of(nn.Linear(2, 3)) | {"more": 3}, "a.ckpt")
    assert model.restored == 3


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Linear(2, 4)], r"net.0.weight \(4, 2\) instead of \(3, 2\), .* \(of another shape\)"),
        ([], r"net.0.weight, net.0.bias \(missing\)"),
        ([nn.Linear(2, 3), nn.Linear(2, 3)], r"net.1.weight, net.1.bias \(unexpected\)"),
        ([nn.Linear(2, 3)] * 9, r"net.2.bias and 12 more \(unexpected\)"),
    ],
)
def test_another_architecture_is_told(layers, message):
    with pytest.raises(UserError, match=rf"a.ckpt \(a some.Network\) differs: .*{message}"):
        load_weights(Wrapped(nn.Linear(2, 3)), checkpoint_of(*layers), "a.ckpt")
