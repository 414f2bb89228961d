import pytest
import torch

from src.callbacks.checkpoints import StoredConfig
from src.callbacks.weight_path import WeightPath
from tests.helpers.tiny import TinyData, TinyModule, TinyNetwork


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


def test_training_that_ends_in_the_middle_of_an_epoch_says_so(make_trainer, tmp_path):
    for every, steps in ((1, [0, 3, 4]), (9, [0, 4])):
        callback = WeightPath(str(tmp_path / str(every)), every_n_epochs=every)
        trainer = make_trainer([callback], max_steps=4, logger=False)
        trainer.fit(TinyModule(TinyNetwork("c4")), datamodule=TinyData())
        files = sorted((tmp_path / str(every) / "path").glob("*"))
        found = [torch.load(file, weights_only=True)["epochs_trained"] for file in files]
        assert found == pytest.approx([step / 3 for step in steps])


def test_arguments_are_checked():
    for options, match in (
        ({"every_n_epochs": 0}, "`every_n_epochs` must be .* at least 1; got 0"),
        ({"steps": [3, 0]}, "`steps` must be an integer of at least 1; got 0"),
    ):
        with pytest.raises(ValueError, match=match):
            WeightPath("checkpoints", **options)
