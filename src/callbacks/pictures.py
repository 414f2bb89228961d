"""Pictures of the learned weights, and of what a network forecasts beside what happened."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from src.callbacks.subset import fixed_subset
from src.checks import check_integer
from src.data.samples import spread
from src.files import IMAGES
from src.measures import evaluation_mode, network_of
from src.plots.fields import animate_fields, plot_fields
from src.plots.style import save_figure
from src.plots.weights import draw_kernels, draw_relaxed_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("truth", "forecast", "difference")
TITLE = "Forecast of the velocity"


class WeightPictures(Callback):
    """Draws the first layer's kernels and the relaxed weights, before and after training.

    They are saved as ``images/kernels_start.png``, ``images/relaxed_weights_end.png``, ... below
    the trainer's ``default_root_dir``, with a PDF beside each, and given to every logger that takes
    images, as ``images/kernels`` and ``images/relaxed_weights``. What a network lacks is not drawn,
    nothing is at all in a ``fast_dev_run``, and a resumed run does not draw its start again.

    Args:
        max_channels: largest number of kernels' rows (output times input channels), or of an
            ordinary convolution's output channels, a positive integer.
    """

    def __init__(self, max_channels: int = 8) -> None:
        check_integer("max_channels", max_channels)
        self.max_channels = max_channels

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0:
            self._draw(trainer, pl_module, "start", "before training")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, "end", "after training")

    def _draw(self, trainer: Trainer, pl_module: LightningModule, time: str, when: str) -> None:
        if trainer.fast_dev_run or not trainer.is_global_zero:
            return
        network = network_of(pl_module)
        kernels = draw_kernels(network, self.max_channels, when)
        figures = {"kernels": kernels, "relaxed_weights": draw_relaxed_weights(network, when)}
        for name, figure in figures.items():
            if figure is not None:
                path = Path(trainer.default_root_dir) / IMAGES / f"{name}_{time}.png"
                log_figure(trainer, f"images/{name}", figure, path, max(trainer.global_step - 1, 0))


class ForecastPictures(Callback):
    """Draws forecasts of test windows beside the truth and the difference of the two.

    It draws when the network is tested, so the pictures are of the network whose test errors
    are reported. Windows are chosen at equal distances over the first test set. Colours show
    the speed, on one scale that reaches to the largest true one. Below the trainer's
    ``default_root_dir`` it writes ``images/forecast.png`` (truth, forecast and difference by row,
    steps ahead by column), a PDF beside it, and ``images/forecast.gif`` (the three side by side,
    one picture per step). Loggers that take images get the one as ``images/forecast``, those that
    take videos the other as ``images/forecast_video``. Nothing is drawn in a ``fast_dev_run``.

    Args:
        num_windows: number of windows drawn, a positive integer.
        max_columns: largest number of steps in the picture, a positive integer.
    """

    def __init__(self, num_windows: int = 2, max_columns: int = 5) -> None:
        check_integer("num_windows", num_windows)
        check_integer("max_columns", max_columns)
        self.num_windows = num_windows
        self.max_columns = max_columns

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.fast_dev_run or not trainer.is_global_zero:
            return
        windows = torch.cat(fixed_subset(trainer, "test", self.num_windows))
        windows = trainer.precision_plugin.convert_input(windows)
        with evaluation_mode(pl_module):
            forecast = pl_module.forecast(windows)[:, :, :2]
        truth = windows[:, -forecast.shape[1] :, :2]
        # [windows, 3, T, 2, H, W]
        fields = torch.stack([truth, forecast, forecast - truth], 1).float().cpu().numpy()
        limit = float(np.hypot(fields[:, 0, :, 0], fields[:, 0, :, 1]).max())
        numbers = [f" {n + 1}" if len(fields) > 1 else "" for n in range(len(fields))]
        ahead = [f"{n + 1} step{'s' if n else ''} ahead" for n in range(fields.shape[2])]

        step = max(trainer.global_step - 1, 0)
        path = Path(trainer.default_root_dir) / IMAGES / "forecast.png"
        shown = spread(fields.shape[2], self.max_columns)
        rows = [f"{name}{number}" for number in numbers for name in NAMES]
        table = fields.reshape(-1, *fields.shape[2:])[:, shown]
        figure = plot_fields(table, rows, [ahead[n] for n in shown], TITLE, limit)
        log_figure(trainer, "images/forecast", figure, path, step)

        path = path.with_suffix(".gif")
        titles = [f"{TITLE}, {text}" for text in ahead]
        animate_fields(fields, [n.strip() for n in numbers], NAMES, titles, path, limit)
        for logger in trainer.loggers:
            if hasattr(logger, "log_video"):  # Weights & Biases
                logger.log_video("images/forecast_video", [str(path)], step, format=["gif"])


def log_figure(trainer: Trainer, name: str, figure: "Figure", path: Path, step: int) -> None:
    """Save a figure and give it to every logger that takes images."""
    save_figure(figure, path)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(name, figure, step)
        elif hasattr(logger, "log_image"):  # Weights & Biases
            logger.log_image(name, [str(path)], step)
