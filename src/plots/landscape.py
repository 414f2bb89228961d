"""The loss around the path of a training: its plane, random planes, and the line to its end."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from src.measures import Reading
from src.plots.style import (
    COLORS,
    SEQUENTIAL,
    TICK_SIZE,
    add_colorbar,
    new_figure,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

LARGEST = 10  # losses on a plane beyond so many times the largest of the path look alike
APART = 0.09  # of the width and height of a panel, at least, between epochs that are named


def draw_landscape(reading: Reading, title: str) -> "Figure | None":
    """Every plane in colours of one scale, with the path on its own; and the line."""
    from matplotlib.colors import LogNorm

    details = reading.details
    planes = [details["plane"]] if "plane" in details else []
    planes += details["random_planes"]
    columns = len(planes) + ("line" in details)
    if columns == 0:
        return None
    title = f"Training loss around the path of training, {title}"
    figure, [panels] = new_figure(max(4.4 * columns, 4.8), 3.9, title, columns=columns)
    if planes:
        finite = np.concatenate([np.array(plane["losses"], float).ravel() for plane in planes])
        finite = finite[np.isfinite(finite)]
        lowest = max(finite.min(initial=min(details["path_losses"])), 1e-12)
        limit = LARGEST * max(details["path_losses"])
        scale = LogNorm(lowest, max(min(finite.max(initial=lowest), limit), 1.01 * lowest))
        for axes, plane in zip(panels, planes):
            filled = _fill(axes, plane, scale)
        clipped = f"; above {scale.vmax:.2g} alike" if finite.max(initial=0) > scale.vmax else ""
        label = f"training loss, log colours{clipped}"
        add_colorbar(figure, filled, panels[: len(planes)], label, format="%.2g")
    if "plane" in details:
        _mark_path(panels[0], details, scale)
    for axes in panels[len(planes) - len(details["random_planes"]) : len(planes)]:
        axes.plot(0, 0, "o", color="white", ms=6, mec="black")
        _name(axes, (0, 0), "end of training")
        labels = (f"{which} random direction, norms of the filters" for which in ("1st", "2nd"))
        style_axes(axes, "random plane at the end", *labels)
        axes.grid(False)
    if "line" in details:
        _draw_line(panels[-1], details)
    return figure


def _fill(axes: "Axes", plane: dict[str, list], scale: "LogNorm") -> Any:
    losses = np.array(plane["losses"], float).T  # null, infinity in JSON, becomes NaN
    shown = np.nan_to_num(losses, nan=np.inf).clip(scale.vmin, 2 * scale.vmax)
    levels = np.geomspace(scale.vmin, scale.vmax, 14)
    options = {"levels": levels, "norm": scale, "cmap": SEQUENTIAL, "extend": "max"}
    return axes.contourf(plane["a"], plane["b"], shown, **options)


def _mark_path(axes: "Axes", details: dict[str, Any], scale: "LogNorm") -> None:
    """Points of the path in the colour of their own loss; start, end and epochs are named."""
    path, epochs = np.array(details["coordinates"]), details["epochs_trained"]
    axes.plot(*path.T, color="white", lw=1.2)
    look = {"norm": scale, "cmap": SEQUENTIAL, "edgecolors": "white", "zorder": 3}
    axes.scatter(*path.T, s=40, c=details["path_losses"], **look)
    size = np.array([np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())])
    named: list[int] = []
    for index in (0, len(path) - 1, *range(1, len(path) - 1)):
        steps = np.abs(path[named] - path[index]) / size
        if named[1:] and (steps < (2.2 * APART, APART)).all(1).any():
            continue
        place = {0: "start, ", len(path) - 1: "end, "}.get(index, "")
        _name(axes, path[index], f"{place}epoch {epochs[index]:g}")
        named.append(index)
    first, second = (
        f"{100 * part:.1f} % of the variance" for part in details["explained_variance"]
    )
    labels = f"1st component, weights' unit ({first})", f"2nd component, weights' unit ({second})"
    style_axes(axes, "plane of the path; dots in the colour of their own loss", *labels)
    axes.grid(False)


def _name(axes: "Axes", point: Sequence[float], text: str) -> None:
    """A name beside a point that runs towards the middle of the panel."""
    from matplotlib.patheffects import withStroke

    left = point[0] <= np.mean(axes.get_xlim())
    place = {"xytext": (8 if left else -8, 4), "ha": "left" if left else "right"}
    outline = [withStroke(linewidth=2, foreground="black")]
    look = {"color": "white", "fontsize": TICK_SIZE, "path_effects": outline}
    axes.annotate(text, point, textcoords="offset points", **place, **look)


def _draw_line(axes: "Axes", details: dict[str, Any]) -> None:
    line, epochs = details["line"], details["epochs_trained"]
    axes.plot(line["positions"], line["losses"], "-o", ms=3, lw=1.2)
    ends = {"start": (0, COLORS[1]), "end": (-1, COLORS[2])}
    for name, (index, color) in ends.items():
        loss = details["path_losses"][index]
        label = f"{name}, epoch {epochs[index]:g}: loss {loss:.3g}"
        axes.plot(line["positions"][index], loss, "o", color=color, ms=7, label=label)
    style_axes(axes, "straight line", "part of the way from start to end", "training loss")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=TICK_SIZE)
