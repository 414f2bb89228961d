"""What all figures share: how they look and how they are written. None goes through pyplot."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150
TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 11, 9, 8  # of text, in points
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"  # colour maps

# Okabe and Ito's colours without yellow, which readers without full colour vision tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# By class, without "Forecaster": a network has one colour in all figures.
NETWORK_COLORS = {
    "CNN": "#000000",
    "GCNN": "#0072B2",
    "RelaxedGCNN": "#D55E00",
    "E2CNN": "#009E73",
    "RelaxedSteerable": "#CC79A7",
    "RelaxedTranslation": "#E69F00",
    "UNet": "#8C564B",
    "GroupUNet": "#56B4E9",
    "RelaxedGroupUNet": "#9467BD",
    "DilatedResNet": "#A6A000",
}
BASELINE_COLORS = {"last frame repeated": "#666666", "linear extrapolation": "#A6A6A6"}


def network_color(network: str, place: int = 0) -> str:
    """Colour of a network in figures that compare networks.

    Args:
        network: name or path of its class, such as ``RelaxedGCNN`` or ``CNNForecaster``.
        place: number of the curve, which chooses the colour of a class that has none.
    """
    name = network.rpartition(".")[2].removesuffix("Forecaster")
    return (NETWORK_COLORS | BASELINE_COLORS).get(name, COLORS[place % len(COLORS)])


def new_figure(
    width: float, height: float, title: str = "", rows: int = 1, columns: int = 1, **options: Any
) -> tuple["Figure", np.ndarray]:
    """A figure with a title, sizes in inches, and its axes [rows, columns].

    Args:
        options: other options of `matplotlib.figure.Figure.subplots`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=TITLE_SIZE)
    all_axes = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in all_axes.flat:
        axes.set_prop_cycle(color=COLORS)
    return figure, all_axes


def style_axes(axes: "Axes", title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """Axes of curves or bars: labels, a light grid, no frame above and to the right."""
    axes.set_title(title, fontsize=LABEL_SIZE)
    axes.set_xlabel(xlabel, fontsize=LABEL_SIZE)
    axes.set_ylabel(ylabel, fontsize=LABEL_SIZE)
    axes.tick_params(labelsize=TICK_SIZE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def hide_frame(axes: "Axes") -> None:
    """Axes of a picture: no frame and no ticks, but their labels."""
    axes.tick_params(length=0, labelsize=TICK_SIZE)
    axes.spines[:].set_visible(False)


def add_colorbar(
    figure: "Figure", image: "ScalarMappable", axes: "Axes | np.ndarray", label: str, **options: Any
) -> None:
    """A colour bar of at most 3 inches beside axes; options of `Figure.colorbar`."""
    shrink = min(0.9, 3 / figure.get_figheight())
    bar = figure.colorbar(image, ax=axes, shrink=shrink, aspect=18, pad=0.03, **options)
    bar.set_label(label, fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)
    bar.outline.set_visible(False)


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Write a figure as PNG, and as PDF beside it; a reader never meets half of either."""
    for kind in ("png", "pdf"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, bbox_inches="tight")
        write_bytes(Path(path).with_suffix(f".{kind}"), buffer.getvalue())
        figure.set_layout_engine("none")  # it is found; it would be sought again for each format
