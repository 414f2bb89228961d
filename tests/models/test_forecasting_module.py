from functools import partial
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from src.loggers.metrics_csv import MetricsCSVLogger, read_rows
from src.measures import ForecastScores, divergence
from src.models.components.forecasters import RelaxedGCNNForecaster
from src.models.components.gcnn.caching import ExpandedConv
from src.models.components.gcnn.relaxation import relaxation_penalty, relaxed_layers
from src.models.components.rollout import Rollout
from tests.helpers.tiny import lightning_warnings
from tests.helpers.windows import (
    SGD,
    Growing,
    TinyForecaster,
    TinyWindows,
    loader,
    make_module,
    make_trainer,
    make_windows,
    quiet,
    rms,
    rolled_out,
)

pytestmark = lightning_warnings


def relaxed_net(**options):
    torch.manual_seed(0)
    net = RelaxedGCNNForecaster(num_inputs=2, hidden_channels=2, num_layers=3, **options)
    for layer in relaxed_layers(net).values():
        nn.init.normal_(layer.relaxed_weights)
    return net


@pytest.mark.parametrize(("num_inputs", "scale"), [(1, 2.5), (4, 2.5)])
def test_a_forecast_applies_the_network_to_its_own_frames(num_inputs, scale):
    module, _ = quiet(make_module(Growing(), num_inputs=num_inputs), scale)
    window = make_windows(3, num_inputs + 5)
    forecast = module.forecast(window)
    assert forecast.shape == (3, 5, 2, 6, 6)
    torch.testing.assert_close(forecast, rolled_out(Growing(), window, num_inputs, scale))
    assert len(module.net.given) == 5
    blind = window.clone()
    blind[:, num_inputs:] = float("nan")
    assert torch.equal(module.forecast(blind), forecast)
    rollout = Rollout(module.net, 5)(window[:, :num_inputs] / scale)
    assert torch.equal(rollout * scale, forecast)


@pytest.mark.parametrize("teacher_forcing", [False, True])
def test_a_training_step_builds_each_kernel_once(teacher_forcing):
    """With the loss and gradients of the plain rollout, and alpha times the penalty."""
    net, window = relaxed_net(), make_windows(2, 6)
    layers = [layer for layer in net.modules() if isinstance(layer, ExpandedConv)]
    for layer in layers:
        layer.expanded_fibres = Mock(wraps=layer.expanded_fibres)
    module, logged = quiet(make_module(net, teacher_forcing=teacher_forcing, alpha=0.5))
    for step in (1, 2):
        loss = module.training_step(window, 0)
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        assert [layer.expanded_fibres.call_count for layer in layers] == 3 * [step]
        with torch.no_grad():
            net.readout.weight.mul_(0.9 if step == 1 else 1)  # another kernel for the next step
    penalty = relaxation_penalty(net)
    error = (rolled_out(net, window, 2, 1.0, teacher_forcing) - window[:, 2:]).square().mean()
    expected = error + 0.5 * penalty
    torch.testing.assert_close(loss, expected)
    assert logged["train/loss"] == pytest.approx(expected.item())
    assert logged["train/mse"] == pytest.approx(error.item())
    assert penalty > 1
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, list(net.parameters()))):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_what_a_run_logs(tmp_path):
    """Means over all samples of unequal batches, with a network that does not change."""
    data, module = TinyWindows(), make_module(optimizer=partial(SGD, lr=0.0))
    data.equivariance_error = 0.25
    options = {"logger": MetricsCSVLogger(tmp_path), "log_every_n_steps": 1}
    trainer = make_trainer(tmp_path, max_epochs=2, **options)
    trainer.fit(module, datamodule=data)
    rows = [row for row in read_rows(tmp_path / "metrics.csv") if "data/equivariance_error" in row]
    assert [(row["step"], row["data/equivariance_error"]) for row in rows] == [("0", "0.25")]
    with torch.no_grad():
        train, val = (module.forecast(w) - w[:, 2:] for w in (data.train, data.val))
        tests = [module.forecast(windows) for windows in data.tests]
    expected = dict.fromkeys(("train/loss", "train/mse"), (rms(train) / 2.5) ** 2)
    expected |= {"train/penalty": 0, "val/loss": (rms(val) / 2.5) ** 2, "val/rmse": rms(val)}
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert logged == pytest.approx(expected, rel=1e-5)
    tested = trainer.test(module, datamodule=data, verbose=False)[0]
    scores = {f"{name}{kind}" for name in ("energy", "divergence") for kind in ("", "_true")}
    stepwise = {"rmse", "rmse_persistence", "rmse_linear", "skill", "nrmse"}
    scores |= stepwise | {f"{name}/{step:02d}" for step in range(1, 6) for name in stepwise}
    scores |= {f"spectrum_error/{band}" for band in ("low", "middle", "high")}
    scores |= {"nrmse/01-05", "steps_ahead", "correlation_time"}
    assert set(tested) == {f"{prefix}/{s}" for prefix in ("test", "test/domain") for s in scores}
    for prefix, forecast, windows in zip(("test", "test/domain"), tests, data.tests):
        truth = windows[:, 2:]
        expected = {
            "rmse": rms(forecast - truth),
            "rmse/04": rms((forecast - truth)[:, 3]),
            "rmse_persistence": rms(windows[:, 1:2] - truth),
            "energy": forecast.square().mean().item(),
            "energy_true": truth.square().mean().item(),
            "divergence": rms(divergence(forecast)),
            "divergence_true": rms(divergence(truth)),
        }
        got = {name: tested[f"{prefix}/{name}"] for name in expected}
        assert got == pytest.approx(expected, rel=1e-5)
    data.test_names = ("future",)
    other = trainer.test(module, datamodule=data, verbose=False)[0]
    assert other["test/loader_1/rmse"] == tested["test/domain/rmse"]


def test_the_density_is_forecast_and_trained_but_not_scored(tmp_path):
    """Each of the three channels in units of its own scale; scores are of the velocity."""
    data, net = TinyWindows(density_scale=8.0), relaxed_net(density=True)
    module, trainer = make_module(net, partial(SGD, lr=0.0)), make_trainer(tmp_path)
    trainer.fit(module, datamodule=data)
    scale = torch.tensor([2.5, 2.5, 8.0]).view(3, 1, 1)
    with torch.no_grad():
        train, val = (rolled_out(net, w, 2, scale) - w[:, 2:] for w in (data.train, data.val))
        tests = [rolled_out(net, windows, 2, scale) for windows in data.tests]
    expected = {"train/mse": rms(train / scale) ** 2, "val/loss": rms(val / scale) ** 2}
    expected["val/rmse"] = rms(val[:, :, :2])
    logged = {name: trainer.callback_metrics[name].item() for name in expected}
    assert logged == pytest.approx(expected, rel=1e-5)
    other = make_module(relaxed_net(density=True))
    other.load_state_dict(module.state_dict())
    tested = trainer.test(other, datamodule=data, verbose=False)[0]
    for prefix, forecast, windows in zip(("test", "test/domain"), tests, data.tests):
        scores = ForecastScores()
        scores.update(*(v[:, :, :2] for v in (forecast, windows[:, 2:], windows[:, :2])))
        expected = {f"{prefix}/{name}": v.item() for name, v in scores.compute().items()}
        got = {name: tested[name] for name in expected}
        assert got == pytest.approx(expected, rel=1e-4)
    (windows, *_) = data.test_dataloader()[0]
    answer = quiet(module, 2.5)[0].test_step  # returns all channels
    module.trainer = trainer
    torch.testing.assert_close(answer(windows, 0)["forecast"], tests[0][:4])
    (inputs, truth), *_ = module.objective([windows]).data
    assert torch.equal(truth, windows[:, 2:] / scale)
    assert torch.equal(inputs.flatten(1, 2), module.network_inputs(windows))


def test_without_a_data_module(tmp_path):
    """The scale stays 1; a second test starts anew."""
    module, trainer = make_module(), make_trainer(tmp_path)
    first, second = loader(make_windows(5, 4)), loader(make_windows(5, 6, seed=1))
    trainer.fit(module, first, first)
    assert module.velocity_scale == 1
    alone = trainer.test(module, second, verbose=False)[0]
    assert "test/rmse/04" in alone
    assert not any("loader" in name or "domain" in name for name in alone)
    trainer.test(module, first, verbose=False)
    assert trainer.test(module, second, verbose=False)[0] == alone


def test_the_scale_comes_from_the_data_and_stays_in_the_checkpoint(tmp_path):
    trainer, module = make_trainer(tmp_path), make_module()
    trainer.fit(module, datamodule=TinyWindows(velocity_scale=0.75))
    assert module.velocity_scale == 0.75
    stored = module.state_dict()
    assert {name for name in stored if not name.startswith("net.")} == {"velocity_scale"}
    other = make_module()
    other.load_state_dict(stored)
    data = TinyWindows(velocity_scale=9.0)  # other data do not change a network that is tested
    tested = [trainer.test(m, datamodule=data, verbose=False) for m in (module, other)]
    assert other.velocity_scale == 0.75
    assert tested[0] == tested[1]


@pytest.mark.slow
@pytest.mark.parametrize("make_net", [TinyForecaster, relaxed_net])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_network_trains_as_it_is_written(tmp_path, make_net, monkeypatch):
    compile_as, called = nn.Module.compile, []

    def compile_net(net):  # traced and differentiated, but without code for the machine
        called.append(type(net))
        compile_as(net, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", compile_net)
    ends = []
    for compiled in (False, True):
        module = make_module(make_net(), compile=compiled)
        make_trainer(tmp_path).fit(module, datamodule=TinyWindows())
        module.setup("test")
        ends.append(module.state_dict())
    assert called == [type(module.net)]
    assert list(ends[0]) == list(ends[1])
    for name, expected in ends[0].items():
        torch.testing.assert_close(ends[1][name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions(tmp_path, precision):
    trainer, module = make_trainer(tmp_path, precision=precision), make_module(relaxed_net())
    trainer.fit(module, datamodule=TinyWindows())
    assert trainer.callback_metrics["val/rmse"].isfinite()
    (tested, _) = trainer.test(module, datamodule=TinyWindows(), verbose=False)
    assert tested["test/rmse"] > 0


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (torch.zeros(4, 4, 6, 6), r"must be windows of velocity frames.*got \[4, 4, 6, 6\]"),
        (torch.zeros(4, 5, 3, 6, 6), r"time, 2, height.*got \[4, 5, 3, 6, 6\].*net.density"),
        ((torch.zeros(1), torch.zeros(1)), "must be windows of velocity frames.*got tuple"),
        (torch.zeros(4, 2, 2, 6, 6), "longer than `num_inputs`.*of 2 frames and num_inputs=2"),
    ],
)
def test_windows_are_checked(window, message):
    module, _ = quiet(make_module())
    for use in (module.forecast, module.network_inputs, lambda w: module.training_step(w, 0)):
        with pytest.raises(ValueError, match=message):
            use(window)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ({"num_inputs": 3}, {}, "model.num_inputs=2 and data.num_inputs=3. Set both to the same"),
        ({"velocity_scale": None}, {}, "`velocity_scale`.* above 0; got None. Use"),
        ({}, {"net": relaxed_net(density=True)}, "`density_scale`.* above 0; got None. Use"),
        ({"velocity_scale": float("nan")}, {}, "`velocity_scale`.* above 0; got nan. Use"),
        ({}, {"loss": "l1"}, "`loss` must be one of mse, relative; got 'l1'"),
        ({}, {"input_noise": -1}, "`input_noise` must be a number of at least 0; got -1. Use 0.0"),
        ({}, {"one_step_until": 2}, "`one_step_until` must be a number from 0 to 1; got 2. Use 0"),
        ({}, {"num_inputs": 0}, "`num_inputs` must be an integer of at least 1; got 0"),
        (
            {},
            {"net": nn.Conv2d(4, 1, 3, padding=1)},
            r"\[batch, 2, height, width\] = \[4, 2, 6, 6\]; got \[4, 1, 6, 6\]",
        ),
    ],
)
def test_data_and_networks_that_do_not_fit_are_refused(tmp_path, data, options, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path).fit(make_module(**options), datamodule=TinyWindows(**data))
