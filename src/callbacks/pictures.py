"""Pictures of the learned weights at the start and the end of training."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from torch import Tensor, nn

from src.checks import check_integer
from src.files import IMAGES
from src.measures import network_of, relaxed_weight_error
from src.models.components.gcnn.groups import make_group
from src.plots.style import save_figure
from src.plots.weights import element_axis, element_labels, plot_kernels, plot_relaxed_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIMES = {"start": "before training", "end": "after training"}


class WeightPictures(Callback):
    """Draws the first layer's kernels and the relaxed weights, before and after training.

    - ``images/kernels``: the expanded kernel of the first layer, output channels by group
      elements; for an ordinary convolution, its first output channels.
    - ``images/relaxed_weights``: relaxed weights of every relaxed layer, bank by element, or for
      weights that depend on the position one map per bank.

    They are saved as ``images/<name>_start.png`` and ``images/<name>_end.png`` below the
    trainer's ``default_root_dir`` and given to every logger that takes images. What a network
    lacks is not drawn, nothing is at all in a ``fast_dev_run``, and a resumed run does not draw
    its start again.

    Args:
        max_channels: draw at most so many output channels.

    Raises:
        ValueError: if ``max_channels`` is not a positive integer.
    """

    reads_weights = True

    def __init__(self, max_channels: int = 8) -> None:
        check_integer("max_channels", max_channels)
        self.max_channels = max_channels

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0:
            self._draw(trainer, pl_module, "start")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, "end")

    def _draw(self, trainer: Trainer, pl_module: LightningModule, time: str) -> None:
        if trainer.fast_dev_run or not trainer.is_global_zero:
            return
        network = network_of(pl_module)
        figures = {
            "kernels": draw_kernels(network, self.max_channels, TIMES[time]),
            "relaxed_weights": draw_relaxed_weights(network, TIMES[time]),
        }
        step = 0 if time == "start" else max(trainer.global_step - 1, 0)
        for name, figure in figures.items():
            if figure is None:
                continue
            path = Path(trainer.default_root_dir) / IMAGES / f"{name}_{time}.png"
            save_figure(figure, path)
            for logger in trainer.loggers:
                log_image(logger, f"images/{name}", figure, path, step)


def log_image(logger: Logger, name: str, figure: "Figure", path: Path, step: int) -> None:
    """Give a figure, saved at ``path``, to a logger, if that takes images."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_figure(name, figure, step)
    elif hasattr(logger, "log_image"):  # Weights & Biases
        logger.log_image(name, [str(path)], step)


def draw_kernels(network: nn.Module, max_channels: int, when: str) -> "Figure | None":
    """The first layer's kernels, for its first input channel; None where there are none."""
    for layer in network.modules():
        if hasattr(layer, "expanded_kernel"):
            return _draw_expanded(layer, max_channels, when)
        if isinstance(layer, nn.Conv2d):
            return _draw_ordinary(layer, max_channels, when)
    return None


def draw_relaxed_weights(network: nn.Module, when: str) -> "Figure | None":
    """The relaxed weights of all layers relaxed over a group, or over positions in the picture.

    None where there are none.
    """
    layers = {n: m for n, m in network.named_modules() if hasattr(m, "relaxed_weights")}
    over_group = {name: layer for name, layer in layers.items() if hasattr(layer, "group")}
    if over_group:
        return _draw_over_group(over_group, when)
    return _draw_over_positions(layers, when) if layers else None


def _draw_over_group(layers: dict[str, nn.Module], when: str) -> "Figure":
    errors = {name: relaxed_weight_error(layer).item() for name, layer in layers.items()}
    weights = {name: layer.effective_weights() for name, layer in layers.items()}
    group = next(iter(layers.values())).group
    title = f"Relaxed weights over {group.name.upper()}, {when}"
    return plot_relaxed_weights(weights, errors, element_labels(group), element_axis(group), title)


@torch.no_grad()
def _draw_over_positions(layers: dict[str, nn.Module], when: str) -> "Figure":
    """Each map [H, W] less its mean, by layer and bank; of the layers like the first one."""
    maps = {name: layer.effective_weights() for name, layer in layers.items()}
    shape = next(iter(maps.values())).shape
    maps = {name: w.flip(-2) for name, w in maps.items() if w.shape == shape}  # rows run upwards
    table = torch.stack(list(maps.values()))
    table = table - table.mean((-2, -1), keepdim=True)
    banks = [f"bank {bank}" for bank in range(shape[0])]
    title = f"Relaxed weights over the picture, {when}"
    return plot_kernels(table, list(maps), banks, "", title, "weight minus its mean")


@torch.no_grad()
def _draw_expanded(layer: nn.Module, max_channels: int, when: str) -> "Figure":
    group = make_group(layer.group)
    kernel = layer.expanded_kernel().unflatten(0, (-1, group.order))[:max_channels, :, 0]
    rows = [f"channel {i}" for i in range(len(kernel))]
    title = f"Kernels of the first layer over {group.name.upper()}, {when}"
    return plot_kernels(kernel, rows, element_labels(group), element_axis(group), title)


def _draw_ordinary(layer: nn.Conv2d, max_channels: int, when: str) -> "Figure":
    kernel: Tensor = layer.weight[:max_channels, 0]
    columns = [f"{i}" for i in range(len(kernel))]
    title = f"Kernels of the first layer, {when}"
    return plot_kernels(kernel[None], [""], columns, "output channel", title)
