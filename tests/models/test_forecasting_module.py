from functools import partial

import pytest
import torch
from torch import nn

from src.loggers.metrics_csv import MetricsCSVLogger, read_rows
from src.measures import divergence
from src.models.components.forecasters import RelaxedGCNNForecaster
from src.models.components.gcnn.relaxation import relaxation_penalty
from src.models.forecasting_module import ForecastingModule
from tests.helpers.windows import TinyForecaster, TinyWindows, loader, make_trainer, make_windows

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]

SGD = partial(torch.optim.SGD, lr=0.01)
STILL = partial(torch.optim.SGD, lr=0.0)


def make_module(net=None, optimizer=SGD, num_inputs=2, **options):
    return ForecastingModule(net or TinyForecaster(), optimizer, num_inputs=num_inputs, **options)


def relaxed_net(num_inputs=2):
    torch.manual_seed(0)
    net = RelaxedGCNNForecaster(
        num_inputs=num_inputs, group="c4", hidden_channels=2, num_layers=3, num_filter_banks=2
    )
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("relaxed_weights"):
                parameter.normal_()
    return net


class Growing(nn.Module):
    """The last frame times two, plus the first of the inputs; keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))
        self.given = []

    def forward(self, x):
        self.given.append(x.detach().clone())
        return self.factor * x[:, -2:] + x[:, :2]


def quiet(module):
    """A module outside a trainer, whose logged values are collected."""
    logged = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})
    return module, logged


def rolled_out(net, window, num_inputs, scale, teacher_forcing=False):
    """The obvious rollout: one frame after the other, in physical units."""
    frames = [window[:, t] for t in range(num_inputs)]
    forecasts = []
    for t in range(num_inputs, window.shape[1]):
        source = [window[:, s] for s in range(t)] if teacher_forcing else frames
        inputs = torch.cat([frame / scale for frame in source[-num_inputs:]], 1)
        forecasts.append(net(inputs) * scale)
        frames.append(forecasts[-1])
    return torch.stack(forecasts, 1)


@pytest.mark.parametrize("num_inputs", [1, 2, 4])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_forecast_applies_the_network_to_its_own_frames(num_inputs, scale):
    module = make_module(Growing(), num_inputs=num_inputs)
    module.velocity_scale.fill_(scale)
    window = make_windows(3, num_inputs + 5)
    forecast = module.forecast(window)
    assert forecast.shape == (3, 5, 2, 6, 6)
    torch.testing.assert_close(forecast, rolled_out(Growing(), window, num_inputs, scale))
    assert len(module.net.given) == 5


def test_a_forecast_does_not_see_what_it_forecasts():
    module, window = make_module(), make_windows(3, 6)
    blind = window.clone()
    blind[:, 2:] = float("nan")
    assert torch.equal(module.forecast(window), module.forecast(blind))


def test_known_growth():
    """v_{t+1} = 2 v_t + v_{t-1} from 1, 1: 3, 7, 17, 41."""
    window = torch.ones(1, 6, 2, 4, 4)
    forecast = make_module(Growing()).forecast(window)
    assert forecast[0, :, 0, 0, 0].tolist() == [3, 7, 17, 41]


@pytest.mark.parametrize("teacher_forcing", [False, True])
def test_the_loss_is_the_mean_squared_error_in_units_of_the_scale(teacher_forcing):
    module, logged = quiet(make_module(teacher_forcing=teacher_forcing))
    module.velocity_scale.fill_(2.5)
    window = make_windows(3, 5)
    loss = module.training_step(window, 0)
    expected = rolled_out(module.net, window, 2, 2.5, teacher_forcing)
    error = ((expected - window[:, 2:]) / 2.5).square().mean()
    torch.testing.assert_close(loss, error)
    assert logged == {"train/mse": pytest.approx(loss.item()), "train/loss": logged["train/mse"]}


def test_teacher_forcing_gives_true_frames_in_training_alone():
    window = make_windows(2, 5)
    for forced in (False, True):
        module, _ = quiet(make_module(Growing(), teacher_forcing=forced))
        module.training_step(window, 0)
        truth = torch.equal(module.net.given[2], window[:, 2:4].flatten(1, 2))
        assert truth == forced
        module.net.given.clear()
        module.validation_step(window, 0)
        assert not torch.equal(module.net.given[2], window[:, 2:4].flatten(1, 2))


def test_gradients_flow_through_the_whole_rollout():
    module, _ = quiet(make_module(Growing()))
    window = torch.ones(1, 4, 2, 4, 4)
    module.training_step(window, 0).backward()
    # forecasts a + 1 and a (a + 1) + 1 of ones: mean of (a)^2 and (a^2 + a)^2 at a = 2
    assert module.net.factor.grad.item() == pytest.approx((2 * 2 + 2 * 6 * 5) / 2)


@pytest.mark.parametrize("alpha", [0.0, 1e-3, 2.0])
def test_the_penalty_is_added_alpha_times(alpha):
    module, logged = quiet(make_module(relaxed_net(), alpha=alpha))
    loss = module.training_step(make_windows(2, 4), 0)
    penalty = relaxation_penalty(module.net).item()
    assert penalty > 1
    assert logged["train/loss"] - logged["train/mse"] == pytest.approx(alpha * penalty, rel=1e-4)
    assert loss.item() == pytest.approx(logged["train/loss"])


@pytest.mark.parametrize("teacher_forcing", [False, True])
def test_a_training_step_builds_each_kernel_once(monkeypatch, teacher_forcing):
    net = relaxed_net()
    built = []
    for name, layer in net.named_modules():
        if hasattr(layer, "expanded_kernel"):
            build = layer.expanded_kernel
            monkeypatch.setattr(
                layer, "expanded_kernel", lambda n=name, b=build: (built.append(n), b())[1]
            )
    module, _ = quiet(make_module(net, teacher_forcing=teacher_forcing))
    for step in (1, 2):
        module.training_step(make_windows(2, 6), 0).backward()
        assert sorted(built) == sorted(step * ["blocks.0.0", "blocks.1.0", "readout"])
        with torch.no_grad():
            net.readout.weight.mul_(0.9)  # another kernel for the next step


def test_kernels_built_once_give_the_gradients_of_the_plain_rollout():
    def gradients(forecast_by):
        net = relaxed_net()
        (forecast_by(net) - window[:, 2:]).square().mean().backward()
        return [p.grad for p in net.parameters()]

    window = make_windows(2, 6)
    got = gradients(lambda net: make_module(net).forecast(window))
    expected = gradients(lambda net: rolled_out(net, window, 2, 1.0))
    for one, other in zip(got, expected):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def rms(x):
    return x.square().mean().sqrt().item()


def test_what_a_run_logs(tmp_path):
    """Means over all samples of unequal batches, with a network that does not change."""
    data, module = TinyWindows(), make_module(optimizer=STILL, alpha=0.5)
    trainer = make_trainer(tmp_path)
    trainer.fit(module, datamodule=data)
    with torch.no_grad():
        errors = {
            name: module.forecast(windows) - windows[:, 2:]
            for name, windows in {"train": data.train, "val": data.val}.items()
        }
        tests = [module.forecast(windows) for windows in data.tests]
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    mse = {name: (rms(error) / 2.5) ** 2 for name, error in errors.items()}
    assert logged == pytest.approx(
        {
            "train/loss": mse["train"],
            "train/mse": mse["train"],
            "train/penalty": 0,
            "val/loss": mse["val"],
            "val/rmse": rms(errors["val"]),
        },
        rel=1e-5,
    )
    results = trainer.test(module, datamodule=data, verbose=False)
    tested = results[0]
    scores = {f"{name}{kind}" for name in ("energy", "divergence") for kind in ("", "_true")}
    scores |= {"rmse", "rmse_persistence", *(f"rmse/{step:02d}" for step in range(1, 6))}
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


def test_the_equivariance_error_of_the_data_is_logged_once(tmp_path):
    data = TinyWindows()
    data.equivariance_error = 0.25
    logger = MetricsCSVLogger(tmp_path)
    trainer = make_trainer(tmp_path, logger=logger, max_epochs=2, log_every_n_steps=1)
    trainer.fit(make_module(), datamodule=data)
    rows = [row for row in read_rows(tmp_path / "metrics.csv") if "data/equivariance_error" in row]
    assert [(row["step"], row["data/equivariance_error"]) for row in rows] == [("0", "0.25")]


@pytest.mark.parametrize(("names", "prefix"), [(("future",), "loader_1"), (("a", "b"), "b")])
def test_other_test_loaders(tmp_path, names, prefix):
    data = TinyWindows()
    data.test_names = names
    tested = make_trainer(tmp_path).test(make_module(), datamodule=data, verbose=False)[0]
    assert {"test/rmse", f"test/{prefix}/rmse"} <= set(tested)


def test_one_test_loader_and_no_data_module(tmp_path):
    module = make_module()
    trainer = make_trainer(tmp_path)
    tested = trainer.test(module, loader(make_windows(5, 4)), verbose=False)[0]
    assert "test/rmse/02" in tested
    assert not any("loader" in name or "domain" in name for name in tested)


def test_a_second_test_starts_anew(tmp_path):
    module, trainer = make_module(), make_trainer(tmp_path)
    first, second = loader(make_windows(5, 4)), loader(make_windows(5, 6, seed=1))
    alone = trainer.test(module, second, verbose=False)[0]
    trainer.test(module, first, verbose=False)
    assert trainer.test(module, second, verbose=False)[0] == alone


def test_training_lowers_the_error(tmp_path):
    data = TinyWindows()
    module = make_module(optimizer=partial(torch.optim.Adam, lr=1e-2))
    trainer = make_trainer(tmp_path, max_epochs=1)
    before = trainer.validate(module, datamodule=data, verbose=False)[0]["val/rmse"]
    trainer = make_trainer(tmp_path, max_epochs=8)
    trainer.fit(module, datamodule=data)
    assert trainer.callback_metrics["val/rmse"] < 0.8 * before


def test_the_scale_comes_from_the_data_and_stays_in_the_checkpoint(tmp_path):
    trainer, module = make_trainer(tmp_path), make_module()
    trainer.fit(module, datamodule=TinyWindows(velocity_scale=0.75))
    assert module.velocity_scale == 0.75
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    stored = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert stored["velocity_scale"] == 0.75
    assert {name for name in stored if not name.startswith("net.")} == {"velocity_scale"}
    other = make_module()
    other.load_state_dict(stored)
    data = TinyWindows(velocity_scale=9.0)  # other data do not change a network that is tested
    tested = [
        make_trainer(tmp_path).test(m, datamodule=data, verbose=False) for m in (module, other)
    ]
    assert other.velocity_scale == 0.75
    assert tested[0] == tested[1]


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path):
    def fit(epochs, path=None):
        module = make_module(relaxed_net(), partial(torch.optim.Adam, lr=1e-2))
        trainer = make_trainer(tmp_path, max_epochs=epochs)
        trainer.fit(module, datamodule=TinyWindows(), ckpt_path=path, weights_only=True)
        trainer.save_checkpoint(tmp_path / "a.ckpt")
        return module.state_dict()

    whole = fit(3)
    fit(1)
    resumed = fit(3, tmp_path / "a.ckpt")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_without_a_data_module_the_scale_is_one(tmp_path):
    module = make_module()
    windows = make_windows(4, 4)
    make_trainer(tmp_path).fit(module, loader(windows), loader(windows))
    assert module.velocity_scale == 1


def test_network_inputs_are_the_first_frames_in_units_of_the_scale():
    module = make_module(num_inputs=3)
    module.velocity_scale.fill_(4.0)
    window = make_windows(2, 5)
    inputs = module.network_inputs(window)
    assert inputs.shape == (2, 6, 6, 6)
    torch.testing.assert_close(inputs[:, 4:6], window[:, 2] / 4)
    torch.testing.assert_close(inputs[:, 0], window[:, 0, 0] / 4)


@pytest.mark.parametrize("make_net", [TinyForecaster, relaxed_net])
def test_channels_last_does_not_change_the_result(make_net):
    window = make_windows(2, 5)
    expected = make_module(make_net()).forecast(window)
    got = make_module(make_net(), channels_last=True).forecast(window)
    torch.testing.assert_close(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("make_net", [TinyForecaster, relaxed_net])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_network_trains_as_it_is_written(tmp_path, make_net, monkeypatch):
    compile_as = nn.Module.compile  # traced and differentiated, but without code for the machine
    monkeypatch.setattr(nn.Module, "compile", lambda net: compile_as(net, backend="aot_eager"))
    ends = []
    for compiled in (False, True):
        module = make_module(make_net(), compile=compiled)
        make_trainer(tmp_path).fit(module, datamodule=TinyWindows())
        ends.append(module.state_dict())
    assert list(ends[0]) == list(ends[1])
    for name, expected in ends[0].items():
        torch.testing.assert_close(ends[1][name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions(tmp_path, precision):
    trainer = make_trainer(tmp_path, precision=precision)
    module = make_module(relaxed_net())
    trainer.fit(module, datamodule=TinyWindows())
    assert trainer.callback_metrics["val/rmse"].isfinite()
    (tested, _) = trainer.test(module, datamodule=TinyWindows(), verbose=False)
    assert tested["test/rmse"] > 0


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (torch.zeros(4, 4, 6, 6), r"must be windows of velocity frames.*got \[4, 4, 6, 6\]"),
        (torch.zeros(4, 5, 3, 6, 6), r"time, 2, height.*got \[4, 5, 3, 6, 6\]. Use a data module"),
        ((torch.zeros(1), torch.zeros(1)), "must be windows of velocity frames.*got tuple"),
        (torch.zeros(4, 2, 2, 6, 6), "longer than `num_inputs`.*of 2 frames and num_inputs=2"),
    ],
)
@pytest.mark.parametrize("use", ["forecast", "network_inputs", "training_step"])
def test_windows_are_checked(window, message, use):
    module, _ = quiet(make_module())
    arguments = (window, 0) if use == "training_step" else (window,)
    with pytest.raises(ValueError, match=message):
        getattr(module, use)(*arguments)


@pytest.mark.parametrize("channels", [1, 4])
def test_the_networks_output_is_checked(channels):
    module = make_module(nn.Conv2d(4, channels, 3, padding=1))
    message = rf"\[batch, 2, height, width\] = \[3, 2, 6, 6\]; got \[3, {channels}, 6, 6\]"
    with pytest.raises(ValueError, match=message):
        module.forecast(make_windows(3, 4))


def test_the_number_of_inputs_must_be_the_datas(tmp_path):
    message = r"got model.num_inputs=2 and data.num_inputs=3. Set both to the same"
    for run in ("fit", "test"):
        with pytest.raises(ValueError, match=message):
            getattr(make_trainer(tmp_path), run)(make_module(), datamodule=TinyWindows(3))


@pytest.mark.parametrize("scale", [None, 0.0, -1.0, float("nan"), float("inf"), "1"])
def test_the_scale_of_the_data_is_checked(tmp_path, scale):
    data = TinyWindows(velocity_scale=scale)
    with pytest.raises(ValueError, match=f"`velocity_scale`.* above 0; got {scale!r}. Use"):
        make_trainer(tmp_path).fit(make_module(), datamodule=data)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_inputs": 0}, ValueError, "`num_inputs` must be an integer of at least 1; got 0"),
        ({"alpha": -1.0}, ValueError, "`alpha`.* of at least 0; got -1.0"),
        ({"optimizer": None}, TypeError, "`optimizer` must be a function"),
        ({"beta": 1}, TypeError, "beta"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        make_module(**options)
