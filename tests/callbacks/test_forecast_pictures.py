from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image

from src.callbacks import ForecastPictures, forecast_pictures
from src.models.forecasting_module import ForecastingModule
from tests.helpers.tiny import lightning_warnings
from tests.helpers.windows import TinyForecaster, TinyWindows

pytestmark = lightning_warnings


class MediaLogger(CSVLogger):
    """Takes images and videos as the logger of Weights & Biases does."""

    def __init__(self, folder):
        super().__init__(folder, name="csv", version="")
        self.media = []

    def log_image(self, key, images, step=None, **kwargs):
        assert Path(images[0]).read_bytes().startswith(b"\x89PNG")
        self.media.append((key, Path(images[0]).name, step))

    def log_video(self, key, videos, step=None, **kwargs):
        assert Path(videos[0]).read_bytes().startswith(b"GIF")
        assert kwargs == {"format": ["gif"]}
        self.media.append((key, Path(videos[0]).name, step))


def make_module():
    return ForecastingModule(TinyForecaster(), partial(torch.optim.SGD, lr=0.01), num_inputs=2)


def files(folder):
    return {path.name for path in (folder / "images").glob("*")}


def test_pictures_are_drawn_when_the_network_is_tested(make_trainer, tmp_path):
    logger = MediaLogger(tmp_path)
    trainer = make_trainer([ForecastPictures()], logger=logger, max_epochs=1)
    module, data = make_module(), TinyWindows()
    trainer.fit(module, datamodule=data)
    assert files(tmp_path) == set()
    trainer.test(module, datamodule=data, verbose=False)
    assert files(tmp_path) == {"forecast.png", "forecast.gif"}
    assert logger.media == [
        ("images/forecast", "forecast.png", 2),
        ("images/forecast_video", "forecast.gif", 2),
    ]
    with Image.open(tmp_path / "images" / "forecast.gif") as animation:
        assert animation.n_frames == 5


@pytest.fixture
def drawn(monkeypatch):
    """The arguments of what draws the table and the animation."""
    calls = {}

    def note(name):
        original = getattr(forecast_pictures, name)

        def wrapped(*arguments):
            calls[name] = arguments
            return original(*arguments)

        monkeypatch.setattr(forecast_pictures, name, wrapped)

    note("plot_fields")
    note("animate_fields")
    return calls


@pytest.mark.parametrize(("num_windows", "chosen"), [(1, [0]), (2, [0, 6]), (3, [0, 3, 6])])
def test_truth_forecast_and_difference_of_windows_of_the_first_set(
    make_trainer, drawn, num_windows, chosen
):
    module, data = make_module(), TinyWindows()
    module.velocity_scale.fill_(2.5)
    trainer = make_trainer([ForecastPictures(num_windows, max_columns=3)])
    trainer.test(module, datamodule=data, verbose=False)
    windows = data.tests[0][chosen]
    with torch.no_grad():
        forecast = module.forecast(windows)
    truth = windows[:, 2:]
    expected = torch.stack([truth, forecast, forecast - truth], 1).numpy()
    animated, rows, columns, titles, _, limit = drawn["animate_fields"]
    np.testing.assert_allclose(animated, expected, rtol=1e-5, atol=1e-5)
    assert limit == pytest.approx(truth.norm(dim=2).max().item())
    assert columns == ("truth", "forecast", "difference")
    assert len(rows) == len(chosen)
    assert titles[0].endswith("1 step ahead")
    assert titles[4].endswith("5 steps ahead")
    table, rows, columns, _, limit_of_table = drawn["plot_fields"]
    np.testing.assert_allclose(table, expected[:, :, [0, 2, 4]].reshape(-1, 3, 2, 6, 6), atol=1e-5)
    assert rows[:3] == [f"{n}{' 1' * (len(chosen) > 1)}" for n in forecast_pictures.NAMES]
    assert len(rows) == 3 * len(chosen)
    assert columns == ["1 step ahead", "3 steps ahead", "5 steps ahead"]
    assert limit_of_table == limit


def test_drawing_changes_neither_the_network_nor_its_results(make_trainer, tmp_path):
    results = []
    for callbacks in ([], [ForecastPictures()]):
        module = make_module()
        trainer = make_trainer(callbacks, max_epochs=1, folder=tmp_path / str(len(callbacks)))
        trainer.fit(module, datamodule=TinyWindows())
        results.append(trainer.test(module, datamodule=TinyWindows(), verbose=False))
        assert module.training
    assert results[0] == results[1]


@pytest.mark.slow
def test_files_are_small(make_trainer, tmp_path):
    data = TinyWindows(test_horizon=20)
    data.tests = [torch.randn(3, 22, 2, 64, 64)]
    trainer = make_trainer([ForecastPictures()])
    trainer.test(make_module(), datamodule=data, verbose=False)
    assert all((tmp_path / "images" / name).stat().st_size < 2e6 for name in files(tmp_path))


def test_tensorboard_gets_the_picture(make_trainer, tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    logger = TensorBoardLogger(tmp_path, name="tensorboard", version="")
    trainer = make_trainer([ForecastPictures()], logger=logger)
    trainer.test(make_module(), datamodule=TinyWindows(), verbose=False)
    events = event_accumulator.EventAccumulator(logger.log_dir).Reload()
    assert len(events.Images("images/forecast")) == 1


def test_fast_dev_run_draws_nothing(make_trainer, tmp_path):
    trainer = make_trainer([ForecastPictures()], fast_dev_run=True)
    trainer.test(make_module(), datamodule=TinyWindows(), verbose=False)
    assert files(tmp_path) == set()


def test_without_a_logger(make_trainer, tmp_path):
    trainer = make_trainer([ForecastPictures()], logger=False)
    trainer.test(make_module(), datamodule=TinyWindows(), verbose=False)
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("name", ["num_windows", "max_columns"])
def test_numbers_are_checked(name):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 1; got 0"):
        ForecastPictures(**{name: 0})
