"""What all figures share: how they look and how they are written. None goes through pyplot."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from src.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150


def save_figure(figure: "Figure", path: str | Path, dots_per_inch: int = DOTS_PER_INCH) -> None:
    """Write a figure as PNG; a reader never meets half of it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, bbox_inches="tight")
    write_bytes(path, buffer.getvalue())


def save_gif(pictures: Iterable[np.ndarray], path: str | Path, seconds: float) -> None:
    """Write pictures as an animated GIF that starts again when it is over.

    Args:
        pictures: uint8 [height, width, 3], all of one size; at least one.
        path: of the file.
        seconds: how long each is shown.
    """
    from PIL import Image

    spread = Image.Quantize.MAXCOVERAGE  # so that rare colours, such as a scale's end, are kept
    first, *others = (Image.fromarray(p).quantize(256, spread) for p in pictures)
    buffer = io.BytesIO()
    first.save(
        buffer,
        format="gif",
        save_all=True,
        append_images=others,
        duration=round(1000 * seconds),
        loop=0,
    )
    write_bytes(path, buffer.getvalue())


def rendered(figure: "Figure", dots_per_inch: int) -> np.ndarray:
    """A figure as a picture, uint8 [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dots_per_inch)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def add_colorbar(
    figure: "Figure",
    mappable: "ScalarMappable",
    axes: "Axes | np.ndarray",
    label: str,
    height: float,
    extend: str = "neither",
) -> None:
    """A colour bar of at most 3 inches, in a figure of that height in inches."""
    shrink = min(0.9, 3 / height)
    bar = figure.colorbar(mappable, ax=axes, shrink=shrink, aspect=18, pad=0.03, extend=extend)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def hide_frame(axes: "Axes") -> None:
    """Leave out the frame and the ticks of axes, not their labels."""
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
