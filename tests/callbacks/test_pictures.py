from functools import partial
from unittest.mock import Mock, call

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image

from src.callbacks import ForecastPictures, WeightPictures, pictures
from src.models.components.e2forecasters import E2CNNForecaster, RelaxedSteerableForecaster
from src.models.components.forecasters import (
    CNNForecaster,
    RelaxedGCNNForecaster,
    RelaxedTranslationForecaster,
)
from src.models.forecasting_module import ForecastingModule
from tests.helpers.tiny import TinyData, TinyModule, TinyNetwork
from tests.helpers.windows import TinyForecaster, TinyWindows

NAMES = {"kernels", "relaxed_weights"}


@pytest.fixture
def loggers(tmp_path):
    """One that takes images and videos as that of Weights & Biases does, and TensorBoard's."""
    media = CSVLogger(tmp_path, "csv", "")
    media.log_image, media.log_video = Mock(), Mock()
    return media, TensorBoardLogger(tmp_path, "board", "")


def board_steps(board, name):
    """The steps of an image in TensorBoard's files."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    images = events.EventAccumulator(board.log_dir).Reload().Images(name)
    return [image.step for image in images]


def make_module(net=None):
    optimizer = partial(torch.optim.SGD, lr=0.01)
    return ForecastingModule(net or TinyForecaster(), optimizer, num_inputs=2)


def files(folder):
    return {path.name for path in (folder / "images").glob("*")}


@pytest.mark.slow
def test_weights_at_the_start_and_the_end(make_trainer, tmp_path, loggers):
    trainer = make_trainer([WeightPictures()], logger=loggers)
    trainer.fit(TinyModule(TinyNetwork("c4")), datamodule=TinyData())
    expected = []
    for name in NAMES:
        assert board_steps(loggers[1], f"images/{name}") == [0, 5]
        start, end = (tmp_path / "images" / f"{name}_{time}.png" for time in ("start", "end"))
        assert start.read_bytes()[:4] == end.read_bytes()[:4] == b"\x89PNG"
        assert end.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        assert start.read_bytes() != end.read_bytes()
        name = f"images/{name}"
        expected += [call(name, [str(start)], 0), call(name, [str(end)], 5)]
    assert sorted(loggers[0].log_image.call_args_list) == sorted(expected)


def test_a_resumed_run_keeps_its_start(make_trainer, tmp_path, drawn):
    for epochs, options in ((1, {}), (2, {"ckpt_path": tmp_path / "1.ckpt", "weights_only": True})):
        drawn.clear()
        trainer = make_trainer([WeightPictures()], max_epochs=epochs, folder=tmp_path / str(epochs))
        trainer.fit(TinyModule(TinyNetwork("c4")), datamodule=TinyData(), **options)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
    assert set(drawn) == {f"{name}_end.png" for name in NAMES}


@pytest.mark.parametrize(
    ("make", "options", "names"),
    [
        (CNNForecaster, {}, {"kernels"}),
        (RelaxedGCNNForecaster, {}, NAMES),
        (RelaxedTranslationForecaster, {"grid_size": (6, 6)}, {"relaxed_weights"}),
        pytest.param(E2CNNForecaster, {}, {"kernels"}, marks=pytest.mark.slow),
        pytest.param(RelaxedSteerableForecaster, {}, {"kernels"}, marks=pytest.mark.slow),
    ],
)
def test_what_is_drawn_of_each_network(make_trainer, drawn, make, options, names):
    module = make_module(make(num_inputs=2, hidden_channels=2, num_layers=3, **options))
    trainer = make_trainer([WeightPictures()], max_epochs=1, limit_train_batches=1)
    trainer.fit(module, datamodule=TinyWindows())
    assert set(drawn) == {f"{n}_{time}.png" for n in names for time in ("start", "end")}


@pytest.mark.slow
def test_forecasts_are_drawn_when_the_network_is_tested_and_change_nothing(
    make_trainer, tmp_path, loggers
):
    results = []
    for callbacks in ([], [ForecastPictures()]):
        trainer = make_trainer(callbacks, max_epochs=1, logger=loggers)
        module = make_module()
        trainer.fit(module, datamodule=TinyWindows())
        assert files(tmp_path) == set()
        results.append(trainer.test(module, datamodule=TinyWindows(), verbose=False))
        assert module.training
    assert results[0] == results[1]
    png, gif = (str(tmp_path / "images" / f"forecast.{suffix}") for suffix in ("png", "gif"))
    assert files(tmp_path) == {f"forecast.{suffix}" for suffix in ("png", "pdf", "gif")}
    loggers[0].log_image.assert_called_once_with("images/forecast", [png], 2)
    loggers[0].log_video.assert_called_once_with("images/forecast_video", [gif], 2, format=["gif"])
    with Image.open(gif) as animation:
        assert animation.n_frames == 5
    assert board_steps(loggers[1], "images/forecast") == [2]


@pytest.mark.parametrize(("num_windows", "chosen"), [(1, [0]), (3, [0, 3, 6])])
def test_truth_forecast_and_difference_of_windows_of_the_first_set(
    make_trainer, monkeypatch, drawn, num_windows, chosen
):
    calls = {}
    for name in ("plot_fields", "animate_fields"):
        monkeypatch.setattr(pictures, name, lambda *args, name=name: calls.update({name: args}))
    module, data = make_module(), TinyWindows()
    module.velocity_scale.fill_(2.5)
    trainer = make_trainer([ForecastPictures(num_windows, max_columns=3)], logger=False)
    trainer.test(module, datamodule=data, verbose=False)
    windows = data.tests[0][chosen]
    with torch.no_grad():
        forecast = module.forecast(windows)
    truth, names = windows[:, 2:], ("truth", "forecast", "difference")
    expected = torch.stack([truth, forecast, forecast - truth], 1).numpy()
    several = len(chosen) > 1
    animated, rows, columns, titles, _, limit = calls["animate_fields"]
    np.testing.assert_allclose(animated, expected, rtol=1e-5, atol=1e-5)
    assert limit == pytest.approx(truth.norm(dim=2).max().item())
    assert (columns, rows) == (names, ["1", "2", "3"] if several else [""])
    assert (titles[0][-12:], titles[4][-13:]) == ("1 step ahead", "5 steps ahead")
    table, rows, columns, _, limit_of_table = calls["plot_fields"]
    np.testing.assert_allclose(table, expected[:, :, [0, 2, 4]].reshape(-1, 3, 2, 6, 6), atol=1e-5)
    assert rows[:3] == [f"{n}{' 1' * several}" for n in names]
    assert len(rows) == 3 * len(chosen)
    assert columns == ["1 step ahead", "3 steps ahead", "5 steps ahead"]
    assert limit_of_table == limit


def test_fast_dev_run_draws_no_forecasts(make_trainer, tmp_path):
    trainer = make_trainer([ForecastPictures()], fast_dev_run=True)
    trainer.test(make_module(), datamodule=TinyWindows(), verbose=False)
    assert files(tmp_path) == set()


def test_numbers_are_checked():
    for name in ("max_channels", "num_windows", "max_columns"):
        make = WeightPictures if name == "max_channels" else ForecastPictures
        with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 1; got 0"):
            make(**{name: 0})
