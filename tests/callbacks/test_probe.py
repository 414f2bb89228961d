import logging

import pytest
import torch
from torch.utils.data import DataLoader

from src.callbacks import EquivarianceError, Hessian, LieDerivative, Sharpness
from src.callbacks.subset import training_subset
from src.measures import Subject, probes
from tests.helpers.tiny import (
    TinyData,
    TinyModule,
    TinyNetwork,
    dynamics_rows,
    lightning_warnings,
)

pytestmark = lightning_warnings


CASES = {
    "lie_derivative": (LieDerivative, "val", {"transformations": ["rotation"], "per_layer": False}),
    "sharpness": (Sharpness, "train", {"num_directions": 2}),
    "hessian": (Hessian, "train", {"num_eigenvalues": 1, "num_probes": 2, "lanczos_steps": 3}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_logged_is_what_the_probe_finds(make_trainer, tmp_path, name):
    make, split, options = CASES[name]
    callback = make(every_n_epochs=2, num_samples=6, **options)
    trainer = make_trainer([callback], max_epochs=3)
    module, data = TinyModule(TinyNetwork("c4")), TinyData()
    trainer.fit(module, datamodule=data)
    rows = dynamics_rows(tmp_path, name if name != "hessian" else "hessian_max")
    assert [row["epochs_trained"] for row in rows] == [0, 2, 3]
    indices = [0, 2, 4, 7, 9, 11] if split == "train" else range(6)
    images, labels = zip(*(getattr(data, split)[i] for i in indices))
    batch = (torch.stack(images), torch.stack(labels))
    expected = getattr(probes, name)(Subject(module, [batch]), **options).values
    measured = {n.removeprefix("dynamics/"): v for n, v in rows[-1].items() if "dynamics" in n}
    assert measured == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert set(callback.start_values) == {f"dynamics/{n}" for n in expected}


@pytest.mark.parametrize("num_samples", [1, 5, 99])
def test_training_samples_are_spread_and_in_their_own_order(make_trainer, num_samples):
    class Shuffled(TinyData):
        def train_dataloader(self):
            return DataLoader(self.train, batch_size=4, shuffle=True)

        def on_after_batch_transfer(self, batch, index):
            assert not self.trainer.training, "augmentation is for training alone"
            return batch

    seen = []

    class Module(TinyModule):
        def on_train_start(self):
            state = torch.get_rng_state()
            seen.extend(training_subset(self.trainer, num_samples))
            assert torch.equal(torch.get_rng_state(), state)
            self.trainer.should_stop = True
            self.trainer.datamodule.on_after_batch_transfer = lambda batch, index: batch

    data = Shuffled()
    make_trainer([], max_epochs=1, limit_val_batches=0).fit(Module(TinyNetwork()), datamodule=data)
    indices = {1: [0], 5: [0, 3, 6, 8, 11], 99: range(12)}[num_samples]
    images = torch.cat([batch[0] for batch in seen])
    assert torch.equal(images, data.train.tensors[0][list(indices)])


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")
def test_without_validation_data(make_trainer, caplog):
    class NoValidation(TinyData):
        def val_dataloader(self):
            return []

    callback = LieDerivative()
    with caplog.at_level(logging.INFO, logger="src.callbacks.probe"):
        make_trainer([callback]).fit(TinyModule(TinyNetwork("c4")), datamodule=NoValidation())
    assert callback.start_values == {}
    assert "No val data: LieDerivative is not measured." in caplog.messages


@pytest.mark.parametrize("make", [EquivarianceError, LieDerivative, Sharpness, Hessian])
@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"num_samples": 0}, ValueError, "`num_samples` must be an integer of at least 1; got 0"),
        ({"every_n_epochs": 0}, ValueError, "`every_n_epochs` must be an integer.*got 0"),
        ({"split": "test"}, ValueError, "`split` must be one of train, val; got 'test'"),
        ({"sizes": 3}, TypeError, "an option of .* must be one of .*; got sizes. Correct or"),
    ],
)
def test_arguments_are_checked(make, options, error, match):
    with pytest.raises(error, match=match):
        make(**options)
