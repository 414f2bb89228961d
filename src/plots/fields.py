"""Figures of velocity fields: speed as colour, direction as arrows, one scale for all of them.

Rows of cells run upwards (y), as smoke that rises does; columns run to the right (x).
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.data.samples import spread
from src.files import write_bytes
from src.plots.style import (
    LABEL_SIZE,
    SEQUENTIAL,
    TITLE_SIZE,
    add_colorbar,
    hide_frame,
    new_figure,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARROWS = 11  # along each side, about
INCHES = 1.7  # side of one field
SIMULATIONS, TIMES, PICTURES = 4, 6, 40  # of a set: rows, columns, pictures of the animation


def plot_fields(
    fields: np.ndarray,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str,
    limit: float | None = None,
) -> "Figure":
    """Draw a table of velocity fields [rows, columns, 2, H, W], in cells per time unit.

    `limit` is the largest speed on the colour scale; by default the largest that there is.
    """
    return _table(fields, row_labels, column_labels, title, _limit(fields, limit))[0]


def animate_fields(
    fields: np.ndarray,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    titles: Sequence[str],
    path: Path,
    limit: float | None = None,
) -> None:
    """Write a table of velocity fields that move, as an animated GIF.

    The arguments are those of `plot_fields`, with fields [rows, columns, T, 2, H, W] and a title
    for each of the T pictures.
    """
    from PIL import Image

    limit = _limit(fields, limit)
    figure, panels = _table(fields[:, :, 0], row_labels, column_labels, titles[0], limit)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # so that nothing moves but the fields
    pictures = []
    for time, title in enumerate(titles):
        figure.suptitle(title, fontsize=TITLE_SIZE)
        for place, (image, arrows) in panels.items():
            image.set_data(np.hypot(*fields[place][time]))
            arrows.set_UVC(*_arrows(fields[place][time], limit))
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=70)
        # This method keeps rare colours, such as those of the scale's end.
        colors = Image.Quantize.MAXCOVERAGE
        pictures.append(Image.open(buffer).convert("RGB").quantize(256, colors))
    first, *others = pictures
    buffer = io.BytesIO()
    first.save(buffer, "gif", save_all=True, append_images=others, duration=200, loop=0)
    write_bytes(path, buffer.getvalue())


def plot_set(
    velocities: Any, titles: Sequence[str], path_without_suffix: Path
) -> tuple[Path, Path]:
    """Write a figure and an animation of a set of plumes, of at most four simulations.

    Simulations and frames are chosen at equal distances, the first and the last among them.

    Args:
        velocities: [S, T, 2, H, W] in cells per time unit, an array or part of a file like one;
            only the chosen simulations are read. Channels behind these two are not drawn.
        titles: one per simulation.
        path_without_suffix: where the files go.

    Returns:
        Paths of the figure (.png; simulations by row, times by column) and the animation (.gif).
    """
    simulations = spread(velocities.shape[0], SIMULATIONS)
    times = spread(velocities.shape[1], PICTURES)
    fields = np.stack([np.asarray(velocities[s])[times, :2] for s in simulations])
    names = [titles[s] for s in simulations]
    png, gif = (Path(f"{path_without_suffix}{suffix}") for suffix in (".png", ".gif"))
    columns = spread(len(times), TIMES)
    frames = [f"frame {time}" for time in times]
    shown = [frames[column] for column in columns]
    save_figure(plot_fields(fields[:, columns], names, shown, "Velocity"), png)
    animate_fields(fields[None], [""], names, [f"Velocity, {frame}" for frame in frames], gif)
    return png, gif


def _table(
    fields: np.ndarray,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str,
    limit: float,
) -> tuple["Figure", dict[tuple[int, ...], tuple[Any, Any]]]:
    """A figure of fields [rows, columns, 2, H, W]; at each place, its image and its arrows."""
    rows, columns = fields.shape[:2]
    size = INCHES * columns + 1.6, INCHES * rows + 0.8
    figure, all_axes = new_figure(*size, title, rows, columns)
    step = _step(fields.shape[-2:])
    y, x = (np.arange(step // 2, size, step) for size in fields.shape[-2:])
    panels = {}
    for place in np.ndindex(rows, columns):
        axes, speed = all_axes[place], np.hypot(*fields[place])
        image = axes.imshow(speed, cmap=SEQUENTIAL, vmin=0, vmax=limit, origin="lower")
        axes.set(xticks=[], yticks=[])
        hide_frame(axes)
        arrows = axes.quiver(
            *(x, y, *_arrows(fields[place], limit)),
            color="white",
            angles="xy",
            scale_units="xy",
            scale=limit / step,  # an arrow of that speed reaches the next one
            width=0.008,
            minlength=0,  # no dots where the fluid rests
        )
        panels[place] = image, arrows
    for axes, label in zip(all_axes[0], column_labels):
        axes.set_title(label, fontsize=LABEL_SIZE, pad=4)
    for axes, label in zip(all_axes[:, 0], row_labels):
        axes.set_ylabel(label, fontsize=LABEL_SIZE)
    exceeded = np.nanmax(np.hypot(fields[:, :, 0], fields[:, :, 1]), initial=0) > limit
    extend, label = "max" if exceeded else "neither", "speed (cells per time unit)"
    add_colorbar(figure, panels[0, 0][0], all_axes, label, extend=extend)
    return figure, panels


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
