import pytest
import torch

from src.callbacks import WeightPath
from src.callbacks.checkpoints import AtomicCheckpointIO, StoredConfig
from tests.helpers.tiny import TinyData, TinyModule, TinyNetwork, lightning_warnings

pytestmark = lightning_warnings


class Module(TinyModule):
    """Remembers its weights after every step."""

    def __init__(self):
        super().__init__(TinyNetwork("c4"))
        self.seen = {}

    def remember(self):
        state = {name: tensor.clone() for name, tensor in self.state_dict().items()}
        self.seen[self.trainer.global_step] = state

    def on_train_start(self):
        self.remember()

    def on_train_batch_end(self, *_):
        self.remember()

    def on_save_checkpoint(self, checkpoint):
        checkpoint["relaxation"] = {"blocks.1": 0.5}


def fit(make_trainer, tmp_path, *callbacks, epochs=3, **options):
    module = Module()
    trainer = make_trainer(
        [*callbacks, StoredConfig({"model": "tiny"})],
        max_epochs=epochs,
        plugins=[AtomicCheckpointIO()],
        **options,
    )
    trainer.fit(module, datamodule=TinyData())
    files = sorted((tmp_path / "checkpoints" / "path").glob("*"))
    return module, {file.name: torch.load(file, weights_only=True) for file in files}


def test_weights_are_kept_at_the_start_every_k_epochs_at_steps_and_the_end(make_trainer, tmp_path):
    callback = WeightPath(str(tmp_path / "checkpoints"), every_n_epochs=2, steps=[1, 6, 7])
    module, kept = fit(make_trainer, tmp_path, callback)
    expected = {0: 0.0, 1: 1 / 3, 6: 2.0, 7: 2 + 1 / 3, 9: 3.0}  # three steps per epoch
    assert list(kept) == [f"step_{step:08d}.ckpt" for step in expected]
    for (step, epochs), checkpoint in zip(expected.items(), kept.values()):
        assert checkpoint["global_step"] == step
        assert checkpoint["epochs_trained"] == pytest.approx(epochs)
        assert checkpoint["config"] == {"model": "tiny"}
        assert checkpoint["relaxation"] == {"blocks.1": 0.5}
        state = module.seen[step]
        assert all(torch.equal(t, state[name]) for name, t in checkpoint["state_dict"].items())


def test_nothing_is_kept_in_a_fast_run(make_trainer, tmp_path):
    callback = WeightPath(str(tmp_path / "checkpoints"))
    assert fit(make_trainer, tmp_path, callback, fast_dev_run=True)[1] == {}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"every_n_epochs": 0}, "`every_n_epochs` must be an integer of at least 1; got 0"),
        ({"steps": [3, 0]}, "`steps` must be an integer of at least 1; got 0"),
    ],
)
def test_arguments_are_checked(options, match):
    with pytest.raises(ValueError, match=match):
        WeightPath("checkpoints", **options)
