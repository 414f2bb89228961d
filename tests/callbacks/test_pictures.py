from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn

from src.callbacks import RelaxedWeights, WeightPictures
from src.callbacks.pictures import draw_kernels, draw_relaxed_weights
from src.models.components.e2forecasters import E2CNNForecaster, RelaxedSteerableForecaster
from src.models.components.forecasters import (
    CNNForecaster,
    GCNNForecaster,
    RelaxedGCNNForecaster,
    RelaxedTranslationForecaster,
)
from src.models.components.gcnn import GroupConv, LiftingConv, RelaxedLiftingConv
from src.models.components.translation import RelaxedTranslationConv
from src.models.forecasting_module import ForecastingModule
from tests.helpers.tiny import TinyData, TinyModule, TinyNetwork, lightning_warnings
from tests.helpers.windows import TinyWindows

pytestmark = lightning_warnings

NAMES = {"kernels", "relaxed_weights"}


class ImageLogger(CSVLogger):
    """Takes images as the logger of Weights & Biases does."""

    def __init__(self, folder):
        super().__init__(folder, name="csv", version="")
        self.images = []

    def log_image(self, key, images, step=None, **kwargs):
        assert Path(images[0]).read_bytes().startswith(b"\x89PNG")
        self.images.append((key, Path(images[0]).name, step))


def files(folder):
    return {path.name for path in (folder / "images").glob("*")}


def test_pictures_at_the_start_and_the_end(make_trainer, tmp_path):
    logger = ImageLogger(tmp_path)
    trainer = make_trainer([WeightPictures()], logger=logger)
    trainer.fit(TinyModule(TinyNetwork("c4")), datamodule=TinyData())
    assert files(tmp_path) == {f"{n}_{time}.png" for n in NAMES for time in ("start", "end")}
    assert logger.images == [
        ("images/kernels", "kernels_start.png", 0),
        ("images/relaxed_weights", "relaxed_weights_start.png", 0),
        ("images/kernels", "kernels_end.png", 5),
        ("images/relaxed_weights", "relaxed_weights_end.png", 5),
    ]
    start, end = (
        (tmp_path / "images" / f"relaxed_weights_{t}.png").read_bytes() for t in ("start", "end")
    )
    assert start != end


def test_an_ordinary_network_has_kernels_only(make_trainer, tmp_path):
    trainer = make_trainer([WeightPictures()])
    trainer.fit(TinyModule(TinyNetwork()), datamodule=TinyData())
    assert files(tmp_path) == {"kernels_start.png", "kernels_end.png"}


def test_tensorboard(make_trainer, tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    logger = TensorBoardLogger(tmp_path, name="tensorboard", version="")
    trainer = make_trainer([WeightPictures()], logger=logger)
    trainer.fit(TinyModule(TinyNetwork("c4")), datamodule=TinyData())
    events = event_accumulator.EventAccumulator(logger.log_dir).Reload()
    for name in NAMES:
        assert [image.step for image in events.Images(f"images/{name}")] == [0, 5]


def test_a_resumed_run_keeps_its_start(make_trainer, tmp_path):
    first = make_trainer([WeightPictures()], max_epochs=1, folder=tmp_path / "1")
    first.fit(TinyModule(TinyNetwork("c4")), datamodule=TinyData())
    first.save_checkpoint(tmp_path / "last.ckpt")
    second = make_trainer([WeightPictures()], folder=tmp_path / "2")
    second.fit(
        TinyModule(TinyNetwork("c4")),
        datamodule=TinyData(),
        ckpt_path=tmp_path / "last.ckpt",
        weights_only=True,
    )
    assert files(tmp_path / "2") == {f"{name}_end.png" for name in NAMES}


def test_fast_dev_run_draws_nothing(make_trainer, tmp_path):
    trainer = make_trainer([WeightPictures()], fast_dev_run=True)
    trainer.fit(TinyModule(TinyNetwork("c4")), datamodule=TinyData())
    assert files(tmp_path) == set()


def test_without_a_logger(make_trainer, tmp_path):
    trainer = make_trainer([WeightPictures()], logger=False)
    trainer.fit(TinyModule(TinyNetwork("c4")), datamodule=TinyData())
    assert len(files(tmp_path)) == 4


def kernel_at(figure, row, column, size):
    picture = figure.axes[0].images[0].get_array()
    top, left = row * (size + 1), column * (size + 1)
    return torch.tensor(picture[top : top + size, left : left + size].filled(float("nan")))


@pytest.mark.parametrize("make", [LiftingConv, RelaxedLiftingConv])
def test_rows_are_channels_and_columns_are_elements(make):
    layer = make(1, 5, 3, "c4")
    figure = draw_kernels(nn.Sequential(layer, GroupConv(5, 2, 3, "c4")), 3, "after training")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["channel 0", "channel 1", "channel 2"]
    assert figure.axes[0].get_title() == "Kernels of the first layer over C4, after training"
    for row in range(3):
        for element in range(4):
            upright = kernel_at(figure, row, 0, 3)
            turned = kernel_at(figure, row, element, 3)
            torch.testing.assert_close(turned, torch.rot90(upright, element))


def test_first_channels_of_an_ordinary_convolution():
    layer = nn.Conv2d(2, 12, 5)
    figure = draw_kernels(nn.Sequential(nn.Identity(), layer), 8, "before training")
    torch.testing.assert_close(kernel_at(figure, 0, 7, 5), layer.weight[7, 0].detach())
    assert len(figure.axes[0].get_xticklabels()) == 8


def test_networks_without_convolutions_are_not_drawn():
    network = nn.Sequential(nn.Linear(2, 2))
    assert draw_kernels(network, 8, "before training") is None
    assert draw_relaxed_weights(network, "before training") is None


def test_relaxed_weights_name_layer_and_error():
    layer = RelaxedLiftingConv(1, 2, 3, "d4", num_filter_banks=3)
    with torch.no_grad():
        layer.relaxed_weights[0, 0] = 3.0
    figure = draw_relaxed_weights(nn.ModuleDict({"lift": layer}), "after training")
    axes = figure.axes[0]
    # 14 of 3 * 64 pairs differ by 2; the mean weight is 26 / 24
    assert axes.get_title(loc="left") == f"lift   error {28 / 192 / (26 / 24):.3g}"
    assert axes.images[0].get_array().shape == (3, 8)
    assert [label.get_text() for label in axes.get_xticklabels()][4] == "m 0°"


def test_weights_of_positions_are_maps_less_their_mean():
    layers = {f"layer{i}": RelaxedTranslationConv(1, 1, 3, (4, 5)) for i in range(2)}
    with torch.no_grad():
        layers["layer1"].relaxed_weights[1, 0, 2] += 20.0  # bank 1, lowest row
    axes = draw_relaxed_weights(nn.ModuleDict(layers), "after training").axes[0]
    assert axes.get_title() == "Relaxed weights over the picture, after training"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["layer0", "layer1"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["bank 0", "bank 1"]
    picture = axes.images[0].get_array()
    assert picture[-1, 6 + 2] == pytest.approx(19.0)
    assert picture[-2, 6 + 2] == pytest.approx(-1.0)
    assert abs(picture[:4]).max() == 0


FORECASTERS = [
    (CNNForecaster, {}, {"kernels"}),
    (GCNNForecaster, {}, {"kernels"}),
    (RelaxedGCNNForecaster, {}, NAMES),
    (RelaxedTranslationForecaster, {"grid_size": (6, 6)}, {"relaxed_weights"}),
    (E2CNNForecaster, {}, {"kernels"}),
    (RelaxedSteerableForecaster, {}, {"kernels"}),
]


@pytest.mark.parametrize(("make", "options", "names"), FORECASTERS)
def test_networks_that_forecast(make_trainer, tmp_path, make, options, names):
    net = make(num_inputs=2, hidden_channels=2, num_layers=3, **options)
    module = ForecastingModule(net, partial(torch.optim.SGD, lr=0.01), num_inputs=2)
    trainer = make_trainer([WeightPictures(), RelaxedWeights()], max_epochs=1)
    trainer.fit(module, datamodule=TinyWindows())
    assert files(tmp_path) == {f"{n}_{time}.png" for n in names for time in ("start", "end")}


def test_number_of_channels_is_checked():
    with pytest.raises(ValueError, match="`max_channels` must be an integer of at least 1; got 0"):
        WeightPictures(max_channels=0)
