"""Pictures of what a network forecasts, beside what happened."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from src.callbacks.pictures import log_image
from src.callbacks.subset import spread_test_subset
from src.checks import check_integer
from src.data.samples import spread
from src.files import IMAGES
from src.measures import evaluation_mode
from src.plots.fields import animate_fields, plot_fields
from src.plots.style import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("truth", "forecast", "difference")


class ForecastPictures(Callback):
    """Draws forecasts of test windows beside the truth and the difference of the two.

    It draws when the network is tested, so the pictures are of the network whose test errors
    are reported. Windows are chosen at equal distances over the first test set. Colours tell
    the speed, on one scale that reaches to the largest true one. Below the trainer's
    ``default_root_dir`` it writes

    - ``images/forecast.png``: truth, forecast and difference by row, steps ahead by column;
    - ``images/forecast.gif``: the three side by side, one picture per step.

    Loggers that take images get the one as ``images/forecast``, those that take videos the other
    as ``images/forecast_video``. Nothing is drawn in a ``fast_dev_run``.

    Args:
        num_windows: how many windows are drawn.
        max_columns: most steps in the picture.

    Raises:
        ValueError: if a number is not a positive integer.
    """

    reads_weights = True

    def __init__(self, num_windows: int = 2, max_columns: int = 5) -> None:
        check_integer("num_windows", num_windows)
        check_integer("max_columns", max_columns)
        self.num_windows = num_windows
        self.max_columns = max_columns

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.fast_dev_run or not trainer.is_global_zero:
            return
        windows = spread_test_subset(trainer, self.num_windows)
        if not windows:
            return
        fields = _forecasts(pl_module, torch.cat(windows))
        limit = float(np.hypot(fields[:, 0, :, 0], fields[:, 0, :, 1]).max())
        path = Path(trainer.default_root_dir) / IMAGES / "forecast.png"
        figure = _draw(fields, self.max_columns, limit)
        save_figure(figure, path)
        _animate(fields, limit, path.with_suffix(".gif"))
        step = max(trainer.global_step - 1, 0)
        for logger in trainer.loggers:
            log_image(logger, "images/forecast", figure, path, step)
            log_video(logger, "images/forecast_video", path.with_suffix(".gif"), step)


def log_video(logger: Logger, name: str, path: Path, step: int) -> None:
    """Give an animation to a logger, if that takes videos."""
    if hasattr(logger, "log_video"):  # Weights & Biases
        logger.log_video(name, [str(path)], step, format=["gif"])


@torch.no_grad()
def _forecasts(pl_module: LightningModule, windows: torch.Tensor) -> np.ndarray:
    """[windows, 3, T, 2, H, W]: truth, forecast and difference of windows."""
    with evaluation_mode(pl_module):
        forecast = pl_module.forecast(windows)
    truth = windows[:, -forecast.shape[1] :]
    return torch.stack([truth, forecast, forecast - truth], 1).float().cpu().numpy()


def _draw(fields: np.ndarray, max_columns: int, limit: float) -> "Figure":
    steps = spread(fields.shape[2], max_columns)
    rows = [_label(name, window, len(fields)) for window in range(len(fields)) for name in NAMES]
    columns = [_ahead(step) for step in steps]
    table = fields.reshape(-1, *fields.shape[2:])[:, steps]
    return plot_fields(table, rows, columns, "Forecast of the velocity", limit)


def _animate(fields: np.ndarray, limit: float, path: Path) -> None:
    rows = [_label("", window, len(fields)) for window in range(len(fields))]
    titles = [f"Forecast of the velocity, {_ahead(step)}" for step in range(fields.shape[2])]
    animate_fields(fields, rows, NAMES, titles, path, limit)


def _label(name: str, window: int, num_windows: int) -> str:
    return name if num_windows == 1 else f"{name} {window + 1}".strip()


def _ahead(step: int) -> str:
    return "1 step ahead" if step == 0 else f"{step + 1} steps ahead"
