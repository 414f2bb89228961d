import logging
from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader

from src.callbacks import (
    EquivarianceError,
    Hessian,
    LieDerivative,
    Projection,
    RelaxedWeights,
    Sharpness,
)
from src.measures import Subject, equivariance_error, probes, relaxed_weight_error
from src.measures.symmetry import departure
from src.models.components.forecasters import RelaxedGCNNForecaster
from src.models.forecasting_module import ForecastingModule
from tests.helpers.tiny import TinyData, TinyModule, TinyNetwork, dynamics_rows
from tests.helpers.windows import TinyForecaster, TinyWindows

ERROR = "dynamics/equivariance_error"
LIE = {"transformations": ["rotation"], "per_layer": False}
HESSIAN = {"num_eigenvalues": 1, "num_probes": 2, "lanczos_steps": 3}


@pytest.mark.parametrize("group", ["c4", None])
def test_relaxed_weights_by_layer_and_overall(make_trainer, tmp_path, group):
    callback, measures = RelaxedWeights(), ("relaxed_weight_error", "departure")
    trainer, network = make_trainer([callback]), TinyNetwork(group)
    trainer.fit(TinyModule(network), datamodule=TinyData())
    rows = dynamics_rows(tmp_path, "relaxed_weight_error")
    if group is None:
        assert (rows, callback.start_values) == ([], {})
        assert "epochs_trained" not in trainer.callback_metrics
        return
    layers = ("", "/blocks.0.0", "/blocks.1")
    names = [f"dynamics/{measure}{layer}" for measure in measures for layer in layers]
    assert callback.start_values == dict.fromkeys(names, 0.0)
    assert rows[0] == {"epoch": 0, "step": 0, "epochs_trained": 0, **callback.start_values}
    assert [row["epochs_trained"] for row in rows] == [0, 1, 2]
    error, *errors, departed, first, second = (rows[-1][key] for key in names)
    expected = pytest.approx(relaxed_weight_error(network).item(), rel=1e-6)
    assert (error, sum(errors) / 2) == (expected, expected)
    assert first == pytest.approx(departure(network.blocks[0][0]), rel=1e-6)
    assert departed == pytest.approx((first + second) / 2, rel=1e-6)
    assert min(error, departed) > 0


@pytest.mark.parametrize(
    ("make", "split", "name", "options"),
    [
        (EquivarianceError, "val", "equivariance_error", {"group": "c8"}),
        (LieDerivative, "val", "lie_derivative", LIE),
        (Projection, "val", "projection", {}),
        (Sharpness, "train", "sharpness", {"num_directions": 2}),
        pytest.param(Hessian, "train", "hessian", HESSIAN, marks=pytest.mark.slow),
    ],
)
def test_what_is_logged_is_what_the_probe_finds(make_trainer, tmp_path, make, split, name, options):
    callback = make(split=split, every_n_epochs=2, num_samples=6, **options)
    trainer = make_trainer([callback], max_epochs=3)
    module, data = TinyModule(TinyNetwork("c8" if "group" in options else "c4")), TinyData()
    trainer.fit(module, datamodule=data)
    first = {"hessian": "hessian_max", "projection": "projected_loss"}.get(name, name)
    rows = dynamics_rows(tmp_path, first)
    assert [row["epochs_trained"] for row in rows] == [0, 2, 3]
    indices = [0, 2, 4, 7, 9, 11] if split == "train" else range(6)
    images, labels = zip(*(getattr(data, split)[i] for i in indices))
    batch = (torch.stack(images), torch.stack(labels))
    expected = getattr(probes, name)(Subject(module, [batch]), **options).values
    measured = {n.removeprefix("dynamics/"): v for n, v in rows[-1].items() if "dynamics" in n}
    assert measured == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert set(callback.start_values) == {f"dynamics/{n}" for n in expected}


def test_a_network_without_a_group_is_measured_with_another():
    for own, used in (("c2", "c2"), ("c1", "c4"), (None, "c4")):
        subject = Subject(TinyModule(TinyNetwork(own)), [TinyData().val.tensors])
        assert probes.equivariance_error(subject).details["group"] == used


def test_a_group_that_does_not_fit_stops_before_training(make_trainer):
    for group, match in (("c8", r"output of blocks\.0 .* must be"), ("q4", "`group` must .* 'q4'")):
        trainer = make_trainer([EquivarianceError("val", group=group)])
        with pytest.raises(ValueError, match=match):
            trainer.fit(TinyModule(TinyNetwork("c4")), datamodule=TinyData())
        assert trainer.global_step == 0


def test_the_subset_is_read_once_per_fit(make_trainer):
    callback, data, reads = EquivarianceError("val", every_n_epochs=1), TinyData(), []
    data.val_dataloader = lambda: reads.append(1) or DataLoader(data.val, batch_size=4)
    for calls in (1, 2):
        trainer = make_trainer([callback], limit_val_batches=0, logger=False)
        trainer.fit(TinyModule(TinyNetwork()), datamodule=data)
        assert len(reads) == calls


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")
def test_without_validation_data(make_trainer, tmp_path, caplog):
    callback, data, no_loaders = LieDerivative("val"), TinyData(), []
    data.val_dataloader = lambda: no_loaders
    with caplog.at_level(logging.INFO, logger="src.callbacks.probe"):
        make_trainer([callback]).fit(TinyModule(TinyNetwork()), datamodule=data)
    assert callback.start_values == {}
    assert "No val data: LieDerivative is not measured." in caplog.messages
    assert not dynamics_rows(tmp_path, "lie_derivative")


@pytest.mark.parametrize("relaxed", [True, False])
def test_forecasts_turn_as_vectors(make_trainer, relaxed):
    """Measured on what the module gives its network: the first frames, in its own units."""
    torch.manual_seed(0)
    relaxed_net = RelaxedGCNNForecaster(num_inputs=2, hidden_channels=2, num_layers=3)
    net = relaxed_net if relaxed else TinyForecaster()
    callback = EquivarianceError("val", input="vector", output="vector")
    module = ForecastingModule(net, partial(torch.optim.Adam, lr=0.01), num_inputs=2)
    data, trainer = TinyWindows(), make_trainer([callback])
    trainer.fit(module, datamodule=data)
    assert (callback.start_values[ERROR] < 1e-5) == relaxed
    assert len(callback.start_values) == 1 + len(net.blocks)
    inputs = data.val[:, :2].flatten(1, 2) / data.velocity_scale
    value = equivariance_error(net, [inputs], "c4", input="vector", output="vector")
    assert value > 1e-5
    assert trainer.callback_metrics[ERROR].item() == pytest.approx(value, rel=1e-4)


def test_arguments_are_checked():
    for make, options, match in (
        (LieDerivative, {"num_samples": 0}, "`num_samples` must be an integer of at least 1"),
        (Hessian, {"every_n_epochs": 0}, "`every_n_epochs` must be an integer.*got 0"),
        (Sharpness, {"split": "test"}, "`split` must be one of train, val; got 'test'"),
    ):
        with pytest.raises(ValueError, match=match):
            make(**{"split": "val", **options})
