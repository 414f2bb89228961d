"""Figures of learned weights. They are drawn without pyplot, so no global state is touched."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from src.models.components.gcnn.groups import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

COLORMAP = "RdBu_r"
DOTS_PER_INCH = 150
MAX_ANNOTATED_CELLS = 64
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
    kernels: Tensor, row_labels: list[str], column_labels: list[str], column_axis: str, title: str
) -> "Figure":
    """Draw a table of kernels in one colour scale, symmetric around 0.

    Args:
        kernels: [rows, columns, k, k].
        row_labels: one per row.
        column_labels: one per column.
        column_axis: what the columns are.
        title: the figure's title.
    """
    from matplotlib.figure import Figure

    values = kernels.detach().float().cpu().numpy()
    rows, columns, size = values.shape[:3]
    limit = _largest([values])
    height = 0.75 * rows + 1.4
    figure = Figure(figsize=(0.75 * columns + 2.4, height), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(_mosaic(values), cmap=COLORMAP, vmin=-limit, vmax=limit)
    centres = (size + 1) * np.arange(max(rows, columns)) + (size - 1) / 2
    axes.set_yticks(centres[:rows], row_labels)
    axes.set_xticks(centres[:columns], column_labels)
    axes.set_xlabel(column_axis, fontsize=9)
    axes.set_title(title, fontsize=11, pad=10)
    _hide_frame(axes)
    _add_colorbar(figure, image, axes, "kernel value", height)
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
        _hide_frame(axes)
        if array.size <= MAX_ANNOTATED_CELLS:
            _annotate(axes, array, limit)
    all_axes[-1].set_xticks(range(len(labels)), labels)
    all_axes[-1].set_xlabel(element_axis, fontsize=9)
    figure.suptitle(title, fontsize=11)
    _add_colorbar(figure, image, all_axes, "relaxed weight", height)
    return figure


def save_figure(figure: "Figure", path: Path) -> None:
    """Write the figure as PNG, under a temporary name that is then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _mosaic(values: np.ndarray) -> np.ndarray:
    """[rows, columns, k, k] -> one picture, kernels a pixel of nothing (NaN) apart."""
    rows, columns, size = values.shape[:3]
    padded = np.pad(values, [(0, 0), (0, 0), (0, 1), (0, 1)], constant_values=np.nan)
    picture = padded.transpose(0, 2, 1, 3).reshape(rows * (size + 1), columns * (size + 1))
    return picture[:-1, :-1]


def _largest(arrays: list[np.ndarray]) -> float:
    """The largest absolute value; of zeros alone, a limit that still makes a colour scale."""
    return max(float(np.abs(array).max()) for array in arrays) or 1.0


def _add_colorbar(
    figure: "Figure", image: "AxesImage", axes: "Axes | np.ndarray", label: str, height: float
) -> None:
    """A colour bar of at most 3 inches, whatever the figure's height."""
    bar = figure.colorbar(image, ax=axes, shrink=min(0.9, 3 / height), aspect=18, pad=0.03)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _hide_frame(axes: "Axes") -> None:
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)


def _annotate(axes: "Axes", array: np.ndarray, limit: float) -> None:
    for (row, column), value in np.ndenumerate(array):
        color = "white" if abs(value) > 0.6 * limit else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color, fontsize=7)
