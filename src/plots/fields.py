"""Pictures of velocity fields: speed as colour, direction as arrows, one scale for all of them.

Rows of cells run upwards (y), as smoke that rises does; columns run to the right (x).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from src.plots.style import add_colorbar, hide_frame, rendered, save_gif

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.quiver import Quiver

COLORMAP = "viridis"
LABEL = "speed (cells per time unit)"
ARROWS = 11  # along each side, about
INCHES = 1.7  # side of one field
GIF_DOTS_PER_INCH = 70


class _Panel(NamedTuple):
    """What shows one field."""

    image: "AxesImage"
    arrows: "Quiver"

    def show(self, field: np.ndarray, limit: float) -> None:
        """Show another field [2, H, W]."""
        self.image.set_data(np.hypot(*field))
        self.arrows.set_UVC(*_arrows(field, limit))


def plot_fields(
    fields: np.ndarray,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str,
    limit: float | None = None,
) -> "Figure":
    """Draw a table of velocity fields.

    Args:
        fields: [rows, columns, 2, H, W], in cells per time unit.
        row_labels: one per row.
        column_labels: one per column.
        title: the figure's title.
        limit: the largest speed that the colours tell; by default the largest that there is.
    """
    figure, _ = _table(fields, row_labels, column_labels, title, _limit(fields, limit))
    return figure


def animate_fields(
    fields: np.ndarray,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    titles: Sequence[str],
    path: str | Path,
    limit: float | None = None,
    seconds: float = 0.2,
) -> None:
    """Write a table of velocity fields that move, as an animated GIF.

    Args:
        fields: [rows, columns, T, 2, H, W], in cells per time unit.
        row_labels: one per row.
        column_labels: one per column.
        titles: T titles of the figure, one per picture.
        path: of the file.
        limit: as in `plot_fields`.
        seconds: how long each picture is shown.
    """
    limit = _limit(fields, limit)
    figure, panels = _table(fields[:, :, 0], row_labels, column_labels, titles[0], limit)
    rendered(figure, GIF_DOTS_PER_INCH)
    figure.set_layout_engine("none")  # so that nothing moves but the fields
    pictures = []
    for time, title in enumerate(titles):
        figure.suptitle(title, fontsize=11)
        for place, panel in panels.items():
            panel.show(fields[place][time], limit)
        pictures.append(rendered(figure, GIF_DOTS_PER_INCH))
    save_gif(pictures, path, seconds)


def _table(
    fields: np.ndarray,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str,
    limit: float,
) -> "tuple[Figure, dict[tuple[int, int], _Panel]]":
    from matplotlib.figure import Figure

    rows, columns = fields.shape[:2]
    height = INCHES * rows + 0.8
    figure = Figure(figsize=(INCHES * columns + 1.6, height), layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False)
    panels = {
        place: _draw(all_axes[place], fields[place], limit) for place in np.ndindex(rows, columns)
    }
    for axes, label in zip(all_axes[0], column_labels):
        axes.set_title(label, fontsize=9, pad=4)
    for axes, label in zip(all_axes[:, 0], row_labels):
        axes.set_ylabel(label, fontsize=9)
    figure.suptitle(title, fontsize=11)
    exceeded = np.nanmax(np.hypot(fields[:, :, 0], fields[:, :, 1]), initial=0) > limit
    extend = "max" if exceeded else "neither"
    add_colorbar(figure, panels[0, 0].image, all_axes, LABEL, height, extend)
    return figure, panels


def _draw(axes: "Axes", field: np.ndarray, limit: float) -> _Panel:
    speed = np.hypot(*field)
    image = axes.imshow(speed, cmap=COLORMAP, vmin=0, vmax=limit, origin="lower")
    axes.set_xticks([])
    axes.set_yticks([])
    hide_frame(axes)
    step = _step(speed.shape)
    y, x = (np.arange(step // 2, size, step) for size in speed.shape)
    arrows = axes.quiver(
        *(x, y, *_arrows(field, limit)),
        color="white",
        angles="xy",
        scale_units="xy",
        scale=limit / step,  # an arrow of that speed reaches the next one
        width=0.008,
        minlength=0,  # no dots where the fluid rests
    )
    return _Panel(image, arrows)


def _arrows(field: np.ndarray, limit: float) -> np.ndarray:
    """Vectors [2, h, w] at some of the cells, none longer than the limit."""
    step = _step(field.shape[1:])
    vectors = field[:, step // 2 :: step, step // 2 :: step]
    vectors = np.where(np.isfinite(vectors), vectors, 0.0)
    speed = np.hypot(*vectors)
    return vectors * np.minimum(1.0, limit / np.maximum(speed, np.finfo(float).tiny))


def _step(shape: tuple[int, ...]) -> int:
    return max(1, round(max(shape) / ARROWS))


def _limit(fields: np.ndarray, limit: float | None) -> float:
    """The limit, or the largest speed; of fields at rest, a limit that still makes a scale."""
    if limit is None:
        limit = float(np.hypot(fields[..., 0, :, :], fields[..., 1, :, :]).max())
    return limit if np.isfinite(limit) and limit > 0 else 1.0
