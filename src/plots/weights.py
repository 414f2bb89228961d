"""Figures of learned weights. They are drawn without pyplot, so no global state is touched."""

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from src.models.components.gcnn.groups import Group
from src.plots.style import add_colorbar, hide_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORMAP = "RdBu_r"
MAX_ANNOTATED_CELLS = 64
LARGE_MAP = 16  # pixels; maps of at least this size are drawn larger than kernels
LEAST_WEIGHT_LIMIT = 1.5  # so that new weights, all 1, do not take the scale's extreme colour


def element_labels(group: Group) -> list[str]:
    """A short name per element: its angle, after "m" where it mirrors left-right first."""
    rotations = group.order // 2 if group.name.startswith("d") else group.order
    angles = [f"{360 * (g % rotations) / rotations:.4g}°" for g in range(group.order)]
    return [f"m {a}" if g >= rotations else a for g, a in enumerate(angles)]


def element_axis(group: Group) -> str:
    """A title for an axis of `element_labels`."""
    mirrored = " (m: mirrored left-right, then turned)" if group.name.startswith("d") else ""
    return f"group element{mirrored}"


def plot_kernels(
    kernels: Tensor,
    row_labels: list[str],
    column_labels: list[str],
    column_axis: str,
    title: str,
    value: str = "kernel value",
) -> "Figure":
    """Draw a table of kernels, or of other maps, in one colour scale, symmetric around 0.

    Args:
        kernels: [rows, columns, height, width].
        row_labels: one per row.
        column_labels: one per column.
        column_axis: what the columns are.
        title: the figure's title.
        value: what the colours tell.
    """
    from matplotlib.figure import Figure

    values = kernels.detach().float().cpu().numpy()
    rows, columns, *size = values.shape
    limit = _largest([values])
    inches = 0.75 if max(size) < LARGE_MAP else 1.5
    height = inches * rows + 1.4
    figure = Figure(figsize=(inches * columns + 2.4, height), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(_mosaic(values), cmap=COLORMAP, vmin=-limit, vmax=limit)
    axes.set_yticks(_centres(rows, size[0]), row_labels)
    axes.set_xticks(_centres(columns, size[1]), column_labels)
    axes.set_xlabel(column_axis, fontsize=9)
    axes.set_title(title, fontsize=11, pad=10)
    hide_frame(axes)
    add_colorbar(figure, image, axes, value, height)
    return figure


def plot_relaxed_weights(
    weights: dict[str, Tensor],
    errors: dict[str, float],
    labels: list[str],
    element_axis: str,
    title: str,
) -> "Figure":
    """Draw a heat map (bank, element) per relaxed layer, all in one colour scale around 0.

    Args:
        weights: relaxed weights [L, |G|] by layer.
        errors: the layers' relaxed-weight errors.
        labels: one per group element.
        element_axis: what the columns are.
        title: the figure's title.
    """
    from matplotlib.figure import Figure

    arrays = {name: w.detach().float().cpu().numpy() for name, w in weights.items()}
    banks = [len(array) for array in arrays.values()]
    limit = max(_largest(list(arrays.values())), LEAST_WEIGHT_LIMIT)
    height = sum(0.34 * b + 0.42 for b in banks) + 1.2
    figure = Figure(figsize=(max(0.62 * len(labels) + 2.2, 5.2), height), layout="constrained")
    all_axes = figure.subplots(len(arrays), 1, squeeze=False, height_ratios=banks)[:, 0]
    for axes, (name, array) in zip(all_axes, arrays.items()):
        image = axes.imshow(array, cmap=COLORMAP, vmin=-limit, vmax=limit, aspect="auto")
        axes.set_title(f"{name}   error {errors[name]:.3g}", fontsize=9, loc="left", pad=4)
        axes.set_yticks(range(len(array)), [f"bank {bank}" for bank in range(len(array))])
        axes.set_xticks([])
        hide_frame(axes)
        if array.size <= MAX_ANNOTATED_CELLS:
            _annotate(axes, array, limit)
    all_axes[-1].set_xticks(range(len(labels)), labels)
    all_axes[-1].set_xlabel(element_axis, fontsize=9)
    figure.suptitle(title, fontsize=11)
    add_colorbar(figure, image, all_axes, "relaxed weight", height)
    return figure


def _mosaic(values: np.ndarray) -> np.ndarray:
    """[rows, columns, height, width] -> one picture, maps a pixel of nothing (NaN) apart."""
    rows, columns, height, width = values.shape
    padded = np.pad(values, [(0, 0), (0, 0), (0, 1), (0, 1)], constant_values=np.nan)
    picture = padded.transpose(0, 2, 1, 3).reshape(rows * (height + 1), columns * (width + 1))
    return picture[:-1, :-1]


def _centres(number: int, size: int) -> np.ndarray:
    """Where along a mosaic the centres of its maps lie."""
    return (size + 1) * np.arange(number) + (size - 1) / 2


def _largest(arrays: list[np.ndarray]) -> float:
    """The largest absolute value; of zeros alone, a limit that still makes a colour scale."""
    return max(float(np.abs(array).max()) for array in arrays) or 1.0


def _annotate(axes: "Axes", array: np.ndarray, limit: float) -> None:
    for (row, column), value in np.ndenumerate(array):
        color = "white" if abs(value) > 0.6 * limit else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color, fontsize=7)
