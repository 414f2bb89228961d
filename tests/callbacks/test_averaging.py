import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from src.callbacks.averaging import ExponentialAverage
from src.callbacks.checkpoints import AtomicCheckpointIO, BestAndLastCheckpoint
from src.models.classification_module import ClassificationModule
from src.models.components.gcnn import GroupBatchNorm
from src.models.components.gcnn.relaxation import relaxations
from src.models.components.schedules import LinearSchedule
from tests.helpers.tiny import TinyData, TinyNetwork
from tests.helpers.walking import weight_of

COUNT = "net.blocks.0.2.num_batches_tracked"


def averages(decay, steps):
    """Of the weights 1, 2, ... after each step."""
    found = [1.0]
    for step in range(2, steps + 1):
        found.append(decay * found[-1] + (1 - decay) * step)
    return found


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_what_is_scored_and_stored_is_the_average(walk, tmp_path, decay):
    """Beside the weights themselves, from which a resumed run goes on; also in mid-epoch."""
    options = {"val_check_interval": 3, "check_val_every_n_epoch": None}
    whole, trainer = walk(ExponentialAverage(decay), max_epochs=4, **options)
    expected = averages(decay, 16)
    best = min((3, 6, 9, 12, 15), key=lambda step: abs(expected[step - 1] - 5))
    assert (whole.best["step"], weight_of(tmp_path / "last.ckpt")) == (
        best,
        pytest.approx(expected[-1]),
    )
    stored = weight_of(tmp_path / "best.ckpt")
    assert stored == pytest.approx(expected[best - 1])
    assert whole.best["metrics"]["val/score"] == pytest.approx(-abs(stored - 5))
    assert trainer.lightning_module.net.weight.item() == weight_of(tmp_path / "last.ckpt")
    for path in tmp_path.glob("*.ckpt"):
        path.unlink()
    walk(ExponentialAverage(decay), max_epochs=2, **options)
    assert torch.load(tmp_path / "last.ckpt")["current_model_state"]["net.weight"].item() == 8
    again, _ = walk(ExponentialAverage(decay), max_epochs=4, resume=True, **options)
    assert (again.best, again.last) == (whole.best, whole.last)
    assert weight_of(tmp_path / "best.ckpt") == stored


class Normed(TinyNetwork):
    """Relaxed layers, with batch norm between them."""

    def __init__(self):
        super().__init__("c8")
        self.blocks[0].append(GroupBatchNorm(2))


def test_a_network_validates_as_its_stored_average_does(make_trainer, tmp_path):
    """Statistics of batch norm are averaged; theta and what turns kernels are not."""
    relaxation = LinearSchedule(1.0, 0.0)
    options = {"relaxation": relaxation, "monitor": "val/loss", "monitor_mode": "min"}

    def module():
        return ClassificationModule(Normed(), torch.optim.Adam, **options)

    kept = BestAndLastCheckpoint(str(tmp_path), "val/loss", "min")
    callbacks, trained = [ExponentialAverage(0.9), kept], module()
    quiet = {"logger": False, "plugins": [AtomicCheckpointIO()], "enable_checkpointing": True}
    make_trainer(callbacks, max_epochs=3, **quiet).fit(trained, datamodule=TinyData())
    for which, record in (("best", kept.best), ("last", kept.last)):
        stored, loaded = torch.load(tmp_path / f"{which}.ckpt"), module()
        loaded.load_state_dict(stored["state_dict"])
        loaded.on_load_checkpoint(stored)
        (theta,) = set(relaxations(loaded.net).values())
        assert theta == pytest.approx(relaxation(stored["global_step"] / 9), abs=1e-6)
        (found,) = make_trainer([], logger=False).validate(loaded, TinyData(), verbose=False)
        assert found["val/loss"] == record["metrics"]["val/loss"]
        raw = stored["current_model_state"]
        names = [n for n, value in raw.items() if not torch.equal(value, stored["state_dict"][n])]
        assert {"net.blocks.0.2.running_var", "net.blocks.1.relaxed_weights"} <= set(names)


@pytest.mark.parametrize("decay", [0.9, 0.95, 0.9995, 0.9999])
def test_the_average_of_the_library_is_ours(make_trainer, decay):
    """Lightning's own, on our layers: up to rounding, and to its count of batches, an average."""
    found = []
    for average in (ExponentialAverage(decay), EMAWeightAveraging(decay=decay)):
        module = ClassificationModule(Normed(), torch.optim.Adam)
        make_trainer([average], logger=False).fit(module, datamodule=TinyData())
        found.append(module.eval())
    ours, theirs = (module.state_dict() for module in found)
    assert ours.pop(COUNT) == 6 > theirs.pop(COUNT)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    x = torch.randn(3, 1, 6, 6)
    torch.testing.assert_close(found[0](x), found[1](x), rtol=1e-4, atol=1e-5)


def test_the_decay_is_checked():
    with pytest.raises(ValueError, match=r"`decay` must be a number from 0 to 1; got 1.5"):
        ExponentialAverage(1.5)
