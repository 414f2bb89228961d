"""One figure for each measure of a checkpoint, drawn from what it found."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from src.measures import Reading
from src.models.components.gcnn.groups import make_group
from src.plots.curvature import draw_hessian, draw_sharpness
from src.plots.landscape import draw_landscape
from src.plots.style import (
    LABEL_SIZE,
    SEQUENTIAL,
    add_colorbar,
    hide_frame,
    new_figure,
    style_axes,
)
from src.plots.weights import element_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_ANNOTATED = 16  # group elements; maps of more carry no labels


def draw(measure: str, reading: Reading, title: str) -> "Figure | None":
    """The figure of a measure of ``configs/measure``; None where it found nothing to draw."""
    drawer = DRAWERS.get(measure)
    return None if drawer is None else drawer(reading, title)


def draw_equivariance_error(reading: Reading, title: str) -> "Figure | None":
    """Error against the angle, and the error of each layer, on one scale."""
    layers = _of_layers(reading, "equivariance_error")
    angles = reading.details.get("angles")
    if not (angles or layers):
        return None
    figure, panels = _panels(
        1 + bool(angles and layers), f"Equivariance error, {title}", sharey=True
    )
    if angles:
        axes, degrees = panels[0], [*angles["degrees"], 360.0]
        axes.plot(degrees, [*angles["errors"], angles["errors"][0]], "-o", ms=3, lw=1.2)
        style_axes(axes, "of the network, per angle", "angle, degrees", "relative error")
        axes.set_xticks(range(0, 361, 90))
    if layers:
        _bars(panels[-1], layers, f"per layer, {reading.details['group'].upper()}")
    return figure


def draw_lie_derivative(reading: Reading, title: str) -> "Figure | None":
    """What each layer contributes, under every transformation."""
    subtitles = {
        "lie_derivative": "rotation, per radian",
        "lie_derivative_translation_x": "translation along x, per pixel",
        "lie_derivative_translation_y": "along y, per pixel",
    }
    found = {name: layers for name in subtitles if (layers := _of_layers(reading, name))}
    if not found:
        return None
    figure, panels = _panels(len(found), f"Lie derivative (RMS of the output), {title}")
    top = 1.05 * max(max(layers.values()) for layers in found.values())
    for axes, (name, layers) in zip(panels, found.items()):
        _bars(axes, layers, subtitles[name])
        axes.set_ylim(0, top or None)
    return figure


def draw_symmetry(reading: Reading, title: str) -> "Figure | None":
    """For layers relaxed over a group, which element's kernel departed, which symmetry broke."""
    found = reading.details.get("layers", {})
    layers = {name: layer for name, layer in found.items() if layer["over_group"]}
    if not layers:
        return None
    groups = {make_group(layer["over_group"]["group"]) for layer in layers.values()}
    group = max(groups, key=lambda g: g.order)
    labels = element_labels(group) if len(groups) == 1 else [*map(str, range(group.order))]
    size = max(0.5 * group.order, 2.5) * 2 + 2.5, 0.32 * len(layers) + 2.1
    figure, [panels] = new_figure(*size, f"Departure from strict layers, {title}", columns=2)
    kinds = {"kernel_departures": "kernel at the element", "element_departures": "symmetry broken"}
    tables = [np.full((len(layers), group.order), np.nan) for _ in kinds]
    for table, kind in zip(tables, kinds):
        for row, layer in zip(table, layers.values()):  # of a smaller group shorter
            row[: len(layer["over_group"][kind])] = layer["over_group"][kind]
    limit = max(np.nanmax(table) for table in tables) or 1.0
    for axes, table, subtitle in zip(panels, tables, kinds.values()):
        image = axes.imshow(table, vmin=0, vmax=limit, cmap=SEQUENTIAL, aspect="auto")
        named = range(group.order if group.order <= MAX_ANNOTATED else 0)
        axes.set_xticks(named, labels[: len(named)], rotation=90)
        rows = [f"{n}  {layer['departure']:.2g} %" for n, layer in layers.items()]
        axes.set_yticks(range(len(rows)), rows if axes is panels[0] else [""] * len(rows))
        axes.set_title(subtitle, fontsize=LABEL_SIZE)
        hide_frame(axes)
    add_colorbar(figure, image, panels, "% of the kernel's norm")
    return figure


def draw_projection(reading: Reading, title: str) -> "Figure | None":
    """How fast the loss would fall if each layer of the strict network departed."""
    layers = _of_layers(reading, "departure_gradient")
    if not layers:
        return None
    figure, [axes] = _panels(1, f"Would strict layers relax? {title}", width=6.5)
    _bars(axes, layers, "")
    style_axes(axes, "", "relaxed layer", "fall of the loss per % of departure")
    return figure


DRAWERS: dict[str, Callable[[Reading, str], "Figure | None"]] = {
    "equivariance_error": draw_equivariance_error,
    "lie_derivative": draw_lie_derivative,
    "sharpness": draw_sharpness,
    "hessian": draw_hessian,
    "landscape": draw_landscape,
    "symmetry": draw_symmetry,
    "projection": draw_projection,
}


def _panels(
    columns: int, title: str, width: float = 4.0, sharey: bool = False
) -> tuple["Figure", np.ndarray]:
    size = max(width * columns, 4.5), 3.6
    figure, [panels] = new_figure(*size, title, columns=columns, sharey=sharey)
    return figure, panels


def _of_layers(reading: Reading, name: str) -> dict[str, float]:
    start, values = f"{name}/", reading.values.items()
    return {n.removeprefix(start): value for n, value in values if n.startswith(start)}


def _bars(axes: "Axes", layers: dict[str, float], title: str) -> None:
    names = [name.removeprefix("blocks.") for name in layers]
    axes.bar(range(len(names)), list(layers.values()), tick_label=names)
    style_axes(axes, title, "block")
