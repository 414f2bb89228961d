"""Figures of learned weights: kernels of the first layer, relaxed weights of every layer."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from src.measures import relaxed_weight_error
from src.models.components.gcnn.actions import transform_vector_field
from src.models.components.gcnn.base import GroupLayer
from src.models.components.gcnn.caching import ExpandedConv
from src.models.components.gcnn.filter_banks import RelaxedLayer
from src.models.components.gcnn.groups import Group
from src.models.components.gcnn.kernels import kernel_transform
from src.models.components.gcnn.relaxation import Relaxable, relaxed_layers
from src.models.components.translation import RelaxedTranslationConv
from src.plots.style import (
    DIVERGING,
    LABEL_SIZE,
    SEQUENTIAL,
    add_colorbar,
    hide_frame,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

MAX_ANNOTATED_CELLS = 64
MOST_INPUTS = 3  # input channels whose kernels are drawn
NO_DEPARTURE = 1e-6  # of the largest weight: rounding, which takes no colour
DEVIATION = "Deviations from each bank's mean, in % of its mean |weight|"


def element_labels(group: Group) -> list[str]:
    """A short name per element: its angle, after "m" where it mirrors left-right first."""
    rotations = group.order // 2 if group.name.startswith("d") else group.order
    angles = [f"{360 * (g % rotations) / rotations:.4g}°" for g in range(group.order)]
    return [f"m {a}" if g >= rotations else a for g, a in enumerate(angles)]


def _element_axis(group: Group) -> str:
    mirrored = " (m: mirrored left-right, then turned)" if group.name.startswith("d") else ""
    return f"group element{mirrored}"


@torch.no_grad()
def draw_kernels(network: nn.Module, max_rows: int, when: str) -> "Figure | None":
    """The first layer's kernels; None where there are none.

    Of a layer over a group, one row per output and input channel and one column per element, each
    kernel turned back by its element, so that a strict layer's are equal along a row; of a relaxed
    layer also their departures from the mean along the row. Of an ordinary convolution, one row
    per input channel and one column per output channel. Vectors are arrows, without scalars.
    """
    for layer in network.modules():
        if isinstance(layer, ExpandedConv) and layer.in_type != "regular":
            if layer.out_type == "regular":
                return _plot_turned_back(layer, max_rows, when)
        elif isinstance(layer, nn.Conv2d):
            kernels = layer.weight[:max_rows, :MOST_INPUTS].transpose(0, 1)
            shown = _shown(kernels.shape[1], layer.out_channels, len(kernels), layer.in_channels)
            rows = [f"input {i}" for i in range(len(kernels))]
            columns = [f"{o}" for o in range(kernels.shape[1])]
            title = f"Kernels of the first layer, {when}{shown}"
            return plot_maps(kernels, rows, columns, title, "output channel")
    return None


@torch.no_grad()
def draw_relaxed_weights(network: nn.Module, when: str) -> "Figure | None":
    """How far the relaxed weights of all layers are from strict ones; None where there are none.

    Their deviations from each bank's mean over the group, in per cent of the bank's mean |weight|.
    Where there are only layers relaxed over positions, the same as maps [H, W] by layer and bank,
    of the layers whose maps have the shape of the first one's.
    """
    layers = relaxed_layers(network)
    of_groups = {n: layer for n, layer in layers.items() if isinstance(layer, RelaxedLayer)}
    over_group = {n: x for n, x in of_groups.items() if x.relaxed_weights is not None}
    if over_group:
        return _plot_over_group(over_group, when)
    maps = {
        name: _deviations(layer, (-2, -1)).flip(-2)  # rows run upwards
        for name, layer in layers.items()
        if isinstance(layer, RelaxedTranslationConv)
    }
    if not maps:
        return None
    first = next(iter(maps.values()))
    maps = {name: array for name, array in maps.items() if array.shape == first.shape}
    banks = [f"bank {bank}" for bank in range(len(first))]
    title = f"Relaxed weights over the picture, {when}\n{DEVIATION}"
    return plot_maps(torch.stack(list(maps.values())), list(maps), banks, title, value="%")


def turned_back(layer: ExpandedConv) -> tuple[Tensor, list[int]]:
    """Kernels of a lifting layer before they are turned, psi_g, and their elements g.

    Of layers that turn their kernels, of all elements; of others, such as steerable ones and those
    with free kernels, of those that map the pixel grid to itself, turned back exactly.

    Returns:
        [O, elements, I, fibre, k, k], and the elements.
    """
    group, size = layer.group, layer.kernel_size
    if isinstance(layer, GroupLayer) and not getattr(layer, "effective_kernels", dict)():
        banks = layer.weight if isinstance(layer, RelaxedLayer) else layer.weight[None]
        mixing = banks.new_ones(group.order, 1)
        if isinstance(layer, RelaxedLayer):
            mixing = layer.effective_weights().t()
        psi = torch.einsum("gl,lo...->og...", mixing, banks).flatten(-2)
        psi = psi @ kernel_transform(group, size, layer.interpolation)[0].to(psi).t()
        shape = layer.out_channels, group.order, layer.in_channels, -1, size, size
        return psi.reshape(shape), list(range(group.order))
    elements = [g for g in range(group.order) if group.is_exact(g)]
    turn = partial(transform_vector_field, field_type=layer.in_type)
    kernels = layer.expanded_fibres()
    back = [turn(kernels[:, g].flatten(1, 2), group, int(group.inverse[g])) for g in elements]
    return torch.stack(back, 1).unflatten(2, (layer.in_channels, -1)), elements


def plot_maps(
    maps: Tensor,
    row_labels: list[str],
    column_labels: list[str],
    title: str,
    column_axis: str = "",
    value: str = "kernel value",
) -> "Figure":
    """A table of maps [rows, columns, height, width] in one colour scale, symmetric around 0."""
    rows, columns, height, width = maps.shape
    inches = 0.75 if max(height, width) < 18 else 1.5  # kernels, and maps over the picture
    figure, [[axes]] = new_figure(inches * columns + 2.4, inches * rows + 1.4, title)
    image = _draw_table(axes, maps[:, :, None], row_labels, column_labels)
    axes.set_xlabel(column_axis, fontsize=LABEL_SIZE)
    add_colorbar(figure, image, axes, value)
    return figure


def _plot_turned_back(layer: ExpandedConv, max_rows: int, when: str) -> "Figure":
    """Kernels by channel and element; beside those of a relaxed layer, their departures."""
    kernels, elements = turned_back(layer)
    inputs = min(layer.in_channels, MOST_INPUTS)
    outputs = min(layer.out_channels, max(1, max_rows // inputs))
    kernels = kernels[:outputs, :, :inputs].transpose(1, 2).flatten(0, 1)  # [rows, elements, ...]
    rows = [f"channel {o}" for o in range(outputs)]
    if inputs > 1:
        rows = [f"{row}, input {i}" for row in rows for i in range(inputs)]
    names = element_labels(layer.group)
    columns = [names[g] for g in elements]
    tables = {"turned back": kernels}
    if isinstance(layer, Relaxable):
        departures = kernels - kernels.mean(1, keepdim=True)
        largest = 100 * departures.abs().max() / kernels.abs().max()
        tables[f"departures from their mean, at most {largest:.2g} %"] = departures
    inches = 0.8 if kernels.shape[3] > 1 else 0.62  # of a kernel
    width = (inches * len(columns) + 1.9) * len(tables) + 0.8
    shown = _shown(outputs, layer.out_channels, inputs, layer.in_channels)
    title = f"Kernels of the first layer over {layer.group.name.upper()}, {when}{shown}"
    height = inches * len(rows) + 1.7
    figure, [panels] = new_figure(max(width, 5.5), height, title, columns=len(tables))
    least = NO_DEPARTURE * float(kernels.abs().max())
    for axes, (subtitle, table) in zip(panels, tables.items()):
        image = _draw_table(axes, table, rows if axes is panels[0] else [], columns, least)
        axes.set_title(subtitle, fontsize=LABEL_SIZE)
        axes.set_xlabel(_element_axis(layer.group), fontsize=LABEL_SIZE)
        add_colorbar(figure, image, axes, "length" if table.shape[2] > 1 else "value")
    return figure


def _shown(outputs: int, all_outputs: int, inputs: int, all_inputs: int) -> str:
    """A line of the title that says which channels are drawn, where not all are."""
    if (outputs, inputs) == (all_outputs, all_inputs):
        return ""
    return f"\nfirst {outputs} of {all_outputs} output, {inputs} of {all_inputs} input channels"


def _draw_table(
    axes: "Axes", maps: Tensor, rows: list[str], columns: list[str], least: float = 0.0
) -> "ScalarMappable":
    """Draw maps [rows, columns, fibre, height, width]; the first two of a pixel are an arrow.

    Numbers have a colour scale symmetric around 0, arrows one of their lengths; it reaches at
    least to `least`.
    """
    values = maps.detach().float().cpu().numpy()
    vectors = values.shape[2] > 1
    lengths = np.hypot(values[:, :, 0], values[:, :, 1]) if vectors else values[:, :, 0]
    limit = max(float(np.abs(lengths).max()), least) or 1.0
    # One picture, maps a pixel of nothing (NaN) apart.
    padding = [(0, 0), (0, 0), (0, 1), (0, 1)]
    picture = _mosaic(np.pad(lengths, padding, constant_values=np.nan))
    color = {"cmap": SEQUENTIAL, "vmin": 0} if vectors else {"cmap": DIVERGING, "vmin": -limit}
    image = axes.imshow(picture, vmax=limit, **color)
    if vectors:
        x, y = np.meshgrid(*(np.arange(size) for size in reversed(picture.shape)))
        arrows = (_mosaic(np.pad(values[:, :, c], padding)) for c in range(2))
        options = {"angles": "xy", "scale_units": "xy", "pivot": "mid", "minlength": 0}
        axes.quiver(x, y, *arrows, color="white", scale=limit / 0.9, width=0.006, **options)
    height, width = np.array(lengths.shape[2:]) + 1
    axes.set_yticks(height * np.arange(len(rows)) + height / 2 - 1, rows)
    axes.set_xticks(width * np.arange(len(columns)) + width / 2 - 1, columns)
    hide_frame(axes)
    return image


def _mosaic(maps: np.ndarray) -> np.ndarray:
    """[rows, columns, height, width] as one picture, without its last row and column."""
    rows, columns, height, width = maps.shape
    return maps.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)[:-1, :-1]


def _deviations(layer: Relaxable, axes: tuple[int, ...] = (-1,)) -> Tensor:
    """The weights a layer uses, less their mean over the axes, in per cent of the mean |weight|."""
    weights = layer.effective_weights().detach().float().cpu()
    mean, size = weights.mean(axes, keepdim=True), weights.abs().mean(axes, keepdim=True)
    return 100 * (weights - mean) / size.clamp_min(torch.finfo(size.dtype).tiny)


def _plot_over_group(layers: dict[str, RelaxedLayer], when: str) -> "Figure":
    """A heat map (bank, element) of deviations per layer, all in one colour scale around 0."""
    last = {layer.group: name for name, layer in layers.items()}  # elements are labelled there
    deviations = {name: _deviations(layer).numpy() for name, layer in layers.items()}
    banks = [len(array) for array in deviations.values()]
    limit = max(100 * NO_DEPARTURE, *(np.abs(array).max() for array in deviations.values()))
    title = f"Relaxed weights over {', '.join(g.name.upper() for g in last)}, {when}\n{DEVIATION}"
    width = max(0.62 * max(group.order for group in last) + 2.2, 5.2)
    height = sum(0.34 * b + 0.42 for b in banks) + 1.4
    figure, all_axes = new_figure(width, height, title, len(banks), height_ratios=banks)
    for axes, (name, array) in zip(all_axes[:, 0], deviations.items()):
        image = axes.imshow(array, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
        error = relaxed_weight_error(layers[name]).item()
        axes.set_title(f"{name}   error {error:.3g}", fontsize=LABEL_SIZE, loc="left", pad=4)
        axes.set_yticks(range(len(array)), [f"bank {bank}" for bank in range(len(array))])
        labels = element_labels(layers[name].group) if name in last.values() else []
        axes.set_xticks(range(len(labels)), labels)
        hide_frame(axes)
        if array.size <= MAX_ANNOTATED_CELLS:
            for (row, column), value in np.ndenumerate(array):
                color = "white" if abs(value) > 0.6 * limit else "black"
                text = f"{value:+.2g}" if abs(value) >= 100 * NO_DEPARTURE else "0"
                place = {"ha": "center", "va": "center", "fontsize": 7}
                axes.text(column, row, text, color=color, **place)
    axes.set_xlabel(_element_axis(layers[name].group), fontsize=LABEL_SIZE)
    add_colorbar(figure, image, all_axes, "%")
    return figure
