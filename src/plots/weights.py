"""Figures of learned weights: kernels of the first layer, relaxed weights of every layer."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from src.measures import relaxed_weight_error
from src.models.components.gcnn.filter_banks import RelaxedLayer
from src.models.components.gcnn.groups import Group, make_group
from src.models.components.gcnn.relaxation import relaxed_layers
from src.models.components.translation import RelaxedTranslationConv
from src.plots.style import DIVERGING, LABEL_SIZE, add_colorbar, hide_frame, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_ANNOTATED_CELLS = 64
LEAST_WEIGHT_LIMIT = 1.5  # so that new weights, all 1, do not take the scale's extreme colour


def element_labels(group: Group) -> list[str]:
    """A short name per element: its angle, after "m" where it mirrors left-right first."""
    rotations = group.order // 2 if group.name.startswith("d") else group.order
    angles = [f"{360 * (g % rotations) / rotations:.4g}°" for g in range(group.order)]
    return [f"m {a}" if g >= rotations else a for g, a in enumerate(angles)]


def _element_axis(group: Group) -> str:
    mirrored = " (m: mirrored left-right, then turned)" if group.name.startswith("d") else ""
    return f"group element{mirrored}"


@torch.no_grad()
def draw_kernels(network: nn.Module, max_channels: int, when: str) -> "Figure | None":
    """The first layer's kernels, for its first input channel; None where there are none.

    Rows are output channels and columns group elements; of an ordinary convolution, output
    channels stand in one row.
    """
    for layer in network.modules():
        if hasattr(layer, "expanded_kernel"):
            group = make_group(layer.group)
            kernels = layer.expanded_kernel().unflatten(0, (-1, group.order))[:max_channels, :, 0]
            rows = [f"channel {i}" for i in range(len(kernels))]
            title = f"Kernels of the first layer over {group.name.upper()}, {when}"
            return plot_maps(kernels, rows, element_labels(group), title, _element_axis(group))
        if isinstance(layer, nn.Conv2d):
            kernels = layer.weight[None, :max_channels, 0]
            columns = [f"{i}" for i in range(kernels.shape[1])]
            title = f"Kernels of the first layer, {when}"
            return plot_maps(kernels, [""], columns, title, "output channel")
    return None


@torch.no_grad()
def draw_relaxed_weights(network: nn.Module, when: str) -> "Figure | None":
    """The relaxed weights of all layers relaxed over a group; None where there are none.

    Where there are only layers relaxed over positions, their maps [H, W] less their means, by
    layer and bank, of the layers whose maps have the shape of the first one's.
    """
    layers = relaxed_layers(network)
    over_group = {n: layer for n, layer in layers.items() if isinstance(layer, RelaxedLayer)}
    if over_group:
        return _plot_over_group(over_group, when)
    maps = {
        name: layer.effective_weights().flip(-2)  # rows run upwards
        for name, layer in layers.items()
        if isinstance(layer, RelaxedTranslationConv)
    }
    if not maps:
        return None
    first = next(iter(maps.values()))
    maps = {name: w - w.mean((-2, -1), True) for name, w in maps.items() if w.shape == first.shape}
    banks = [f"bank {bank}" for bank in range(len(first))]
    title = f"Relaxed weights over the picture, {when}"
    table = torch.stack(list(maps.values()))
    return plot_maps(table, list(maps), banks, title, value="weight minus its mean")


def plot_maps(
    maps: Tensor,
    row_labels: list[str],
    column_labels: list[str],
    title: str,
    column_axis: str = "",
    value: str = "kernel value",
) -> "Figure":
    """A table of maps [rows, columns, height, width] in one colour scale, symmetric around 0."""
    values = maps.detach().float().cpu().numpy()
    limit = np.abs(values).max() or 1.0
    # One picture, maps a pixel of nothing (NaN) apart.
    padded = np.pad(values, [(0, 0), (0, 0), (0, 1), (0, 1)], constant_values=np.nan)
    rows, columns, height, width = padded.shape
    mosaic = padded.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)[:-1, :-1]
    inches = 0.75 if max(height, width) < 18 else 1.5  # kernels, and maps over the picture
    figure, [[axes]] = new_figure(inches * columns + 2.4, inches * rows + 1.4, title)
    image = axes.imshow(mosaic, cmap=DIVERGING, vmin=-limit, vmax=limit)
    axes.set_yticks(height * np.arange(rows) + height / 2 - 1, row_labels)
    axes.set_xticks(width * np.arange(columns) + width / 2 - 1, column_labels)
    axes.set_xlabel(column_axis, fontsize=LABEL_SIZE)
    hide_frame(axes)
    add_colorbar(figure, image, axes, value)
    return figure


def _plot_over_group(layers: dict[str, RelaxedLayer], when: str) -> "Figure":
    """A heat map (bank, element) per layer, all in one colour scale around 0."""
    group = next(iter(layers.values())).group
    weights = {name: w.effective_weights().float().cpu().numpy() for name, w in layers.items()}
    banks = [len(array) for array in weights.values()]
    limit = max(LEAST_WEIGHT_LIMIT, *(np.abs(array).max() for array in weights.values()))
    title = f"Relaxed weights over {group.name.upper()}, {when}"
    width, height = max(0.62 * group.order + 2.2, 5.2), sum(0.34 * b + 0.42 for b in banks) + 1.2
    figure, all_axes = new_figure(width, height, title, len(weights), height_ratios=banks)
    for axes, (name, array) in zip(all_axes[:, 0], weights.items()):
        image = axes.imshow(array, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
        error = relaxed_weight_error(layers[name]).item()
        axes.set_title(f"{name}   error {error:.3g}", fontsize=LABEL_SIZE, loc="left", pad=4)
        axes.set_yticks(range(len(array)), [f"bank {bank}" for bank in range(len(array))])
        axes.set_xticks([])
        hide_frame(axes)
        if array.size <= MAX_ANNOTATED_CELLS:
            for (row, column), value in np.ndenumerate(array):
                color = "white" if abs(value) > 0.6 * limit else "black"
                place = {"ha": "center", "va": "center", "fontsize": 7}
                axes.text(column, row, f"{value:.2f}", color=color, **place)
    axes.set_xticks(range(group.order), element_labels(group))
    axes.set_xlabel(_element_axis(group), fontsize=LABEL_SIZE)
    add_colorbar(figure, image, all_axes, "relaxed weight")
    return figure
