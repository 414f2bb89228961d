import logging
from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader, Subset

from src.callbacks import EquivarianceError
from src.measures import equivariance_error, equivariance_errors_per_layer
from src.measures.interpolation_floor import interpolation_floor
from src.models.components.forecasters import RelaxedGCNNForecaster
from src.models.forecasting_module import ForecastingModule
from tests.helpers.tiny import (
    TinyData,
    TinyModule,
    TinyNetwork,
    dynamics_rows,
    lightning_warnings,
    read_metrics,
)
from tests.helpers.windows import TinyForecaster, TinyWindows

pytestmark = lightning_warnings

NAMES = [
    "dynamics/equivariance_error",
    "dynamics/equivariance_error/blocks.0",
    "dynamics/equivariance_error/blocks.1",
]


def fit(trainer, network, data=None):
    trainer.fit(TinyModule(network), datamodule=data or TinyData())
    return network


def test_relaxed_network_starts_equivariant_and_leaves_it(make_trainer, tmp_path):
    callback = EquivarianceError(every_n_epochs=2)
    trainer = make_trainer([callback], max_epochs=3)
    network = fit(trainer, TinyNetwork("c4"))
    rows = dynamics_rows(tmp_path, "equivariance_error")
    assert [row["epochs_trained"] for row in rows] == [0, 2, 3]
    assert all({n for n in row if n.startswith("dynamics")} == set(NAMES) for row in rows)
    assert all(0 <= rows[0][name] < 1e-5 for name in NAMES)
    assert callback.start_values == {name: rows[0][name] for name in NAMES}
    images = TinyData().val.tensors[0]
    expected = [equivariance_error(network, [images], "c4")]
    expected += equivariance_errors_per_layer(network, [images], "c4").values()
    assert expected[0] > 1e-4
    for name, value in zip(NAMES, expected):
        assert rows[-1][name] == pytest.approx(value, rel=1e-5)
        assert trainer.callback_metrics[name].item() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("group", "options", "used"),
    [
        ("c4", {}, "c4"),  # the network's own
        ("d2", {"fallback_group": "c8"}, "d2"),
        (None, {}, "c4"),  # an ordinary network
        (None, {"fallback_group": "c8"}, "c8"),
        ("c1", {"fallback_group": "c3"}, "c3"),  # nothing to measure in the trivial group
        ("c4", {"group": "c2", "per_layer": False}, "c2"),
        (None, {"group": "d4", "elements": "exact", "interpolation": "nearest"}, "d4"),
    ],
)
def test_the_group_measured_with(make_trainer, group, options, used):
    callback = EquivarianceError(**options)
    trainer = make_trainer([callback], max_epochs=1)
    network = fit(trainer, TinyNetwork(group))
    images = TinyData().val.tensors[0]
    value = equivariance_error(network, [images], used)
    assert trainer.callback_metrics[NAMES[0]].item() == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert (NAMES[1] in callback.start_values) == options.get("per_layer", True)


FLOOR = "dynamics/equivariance_error_floor"


@pytest.mark.parametrize("per_layer", [True, False])
def test_the_floor_is_logged_with_each_measurement(make_trainer, tmp_path, per_layer):
    options = {"input": "scalar", "interpolation": "bicubic"}
    callback = EquivarianceError(1, group="c8", per_layer=per_layer, **options)
    fit(make_trainer([callback]), TinyNetwork())
    expected = interpolation_floor([TinyData().val.tensors[0]], "c8", **options)
    assert expected > 0.1
    rows = dynamics_rows(tmp_path, "equivariance_error")
    assert [row["epochs_trained"] for row in rows] == [0, 1, 2]
    assert [row[FLOOR] for row in rows] == pytest.approx([expected] * 3, rel=1e-5)


@pytest.mark.parametrize("options", [{"group": "d4"}, {"group": "c8", "elements": "exact"}])
def test_elements_that_lose_nothing_have_no_floor(make_trainer, options):
    callback = EquivarianceError(**options)
    fit(make_trainer([callback]), TinyNetwork())
    assert NAMES[0] in callback.start_values
    assert FLOOR not in callback.start_values


def test_a_group_that_does_not_fit_stops_before_training(make_trainer):
    trainer = make_trainer([EquivarianceError(group="c8")])
    with pytest.raises(ValueError, match=r"output of blocks\.0 .*group 'c8' must be"):
        fit(trainer, TinyNetwork("c4"))
    assert trainer.global_step == 0


@pytest.mark.filterwarnings("ignore:.*sampler has shuffling enabled")
@pytest.mark.parametrize("num_samples", [1, 6, 10, 99])
def test_the_subset_is_the_first_samples(make_trainer, num_samples):
    callback = EquivarianceError(num_samples=num_samples)
    trainer = make_trainer([callback], max_epochs=1)
    network = fit(trainer, TinyNetwork(), TinyData(shuffle_val=True))
    images = TinyData().val.tensors[0][:num_samples]
    value = equivariance_error(network, [images], "c4")
    assert trainer.callback_metrics[NAMES[0]].item() == pytest.approx(value, rel=1e-5)


def test_the_subset_is_read_once_per_fit(make_trainer):
    class Counting(TinyData):
        calls = 0

        def val_dataloader(self):
            type(self).calls += 1
            return super().val_dataloader()

    callback = EquivarianceError(every_n_epochs=1)
    options = {"limit_val_batches": 0, "logger": False}
    fit(make_trainer([callback], max_epochs=3, **options), TinyNetwork(), Counting())
    assert Counting.calls == 1
    fit(make_trainer([callback], max_epochs=1, **options), TinyNetwork(), Counting())
    assert Counting.calls == 2


def test_without_a_datamodule(make_trainer):
    data = TinyData()
    trainer = make_trainer([EquivarianceError()])
    network = TinyNetwork()
    trainer.fit(TinyModule(network), data.train_dataloader(), [data.val_dataloader()])
    value = equivariance_error(network, [data.val.tensors[0]], "c4")
    assert trainer.callback_metrics[NAMES[0]].item() == pytest.approx(value, rel=1e-5)


class NoValidation(TinyData):
    def val_dataloader(self):
        return []


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")
def test_without_validation_data(make_trainer, tmp_path, caplog):
    callback = EquivarianceError()
    with caplog.at_level(logging.INFO, logger="src.callbacks.probe"):
        fit(make_trainer([callback]), TinyNetwork("c4"), NoValidation())
    assert callback.start_values == {}
    assert "No val data: EquivarianceError is not measured." in caplog.messages
    assert not any("equivariance" in n for row in read_metrics(tmp_path) for n in row)


@pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`")
def test_without_any_validation_loader(make_trainer):
    callback = EquivarianceError()
    trainer = make_trainer([callback])
    trainer.fit(TinyModule(TinyNetwork()), TinyData().train_dataloader())
    assert callback.start_values == {}


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
    callback = EquivarianceError()
    trainer = make_trainer([callback], **options)
    network = fit(trainer, TinyNetwork("c4"))
    images = TinyData().val.tensors[0]
    value = equivariance_error(network, [images], "c4")
    assert 0 <= callback.start_values[NAMES[0]] < 1e-5
    assert trainer.callback_metrics[NAMES[0]].item() == pytest.approx(value, rel=1e-5, abs=1e-7)


def test_measuring_does_not_change_training(make_trainer, tmp_path):
    """Not even with a loader that shuffles by the global random state, and dropout."""

    class Random(TinyData):
        def train_dataloader(self):
            return DataLoader(self.train, batch_size=4, shuffle=True)

        def val_dataloader(self):
            return DataLoader(Subset(self.val, range(10)), batch_size=4, shuffle=True)

    states = []
    for callbacks in ([], [EquivarianceError(every_n_epochs=1)]):
        network = TinyNetwork("c4")
        network.head = torch.nn.Sequential(torch.nn.Dropout(), network.head)
        torch.manual_seed(5)
        trainer = make_trainer(
            callbacks, max_epochs=3, limit_val_batches=0, folder=tmp_path / str(len(states))
        )
        fit(trainer, network, Random())
        states.append(([p.detach().clone() for p in network.parameters()], torch.rand(3)))
    assert torch.equal(states[0][1], states[1][1])
    assert all(torch.equal(*pair) for pair in zip(states[0][0], states[1][0]))


def test_double_precision(make_trainer):
    callback = EquivarianceError()
    trainer = make_trainer([callback], precision="64-true", max_epochs=1)
    fit(trainer, TinyNetwork("c4"))
    assert all(0 <= value < 1e-12 for value in callback.start_values.values())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_samples": 0}, "`num_samples` must be an integer of at least 1; got 0"),
        ({"every_n_epochs": 0}, "`every_n_epochs` must be an integer of at least 1; got 0"),
        ({"group": "q4"}, "`group` must be .* got 'q4'"),
        ({"fallback_group": "q4"}, "`group` must be .* got 'q4'"),
    ],
)
def test_arguments_are_checked(options, match):
    with pytest.raises(ValueError, match=match):
        EquivarianceError(**options)


@pytest.mark.parametrize("relaxed", [True, False])
def test_forecasts_turn_as_vectors(make_trainer, relaxed):
    """Measured on what the module gives its network: the first frames, in its own units."""
    net = TinyForecaster()
    torch.manual_seed(0)
    if relaxed:
        net = RelaxedGCNNForecaster(num_inputs=2, hidden_channels=2, num_layers=3)
    callback = EquivarianceError(input="vector", output="vector")
    module = ForecastingModule(net, partial(torch.optim.Adam, lr=0.01), num_inputs=2)
    data = TinyWindows()
    trainer = make_trainer([callback], max_epochs=2)
    trainer.fit(module, datamodule=data)
    assert (callback.start_values[NAMES[0]] < 1e-5) == relaxed
    assert len(callback.start_values) == 1 + len(net.blocks)
    inputs = data.val[:, :2].flatten(1, 2) / data.velocity_scale
    value = equivariance_error(net, [inputs], "c4", input="vector", output="vector")
    assert value > 1e-5
    assert trainer.callback_metrics[NAMES[0]].item() == pytest.approx(value, rel=1e-4)
