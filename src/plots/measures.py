"""One figure for each measure of a checkpoint, drawn from what it found."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from src.measures import Reading
from src.models.components.gcnn.groups import make_group
from src.plots.style import (
    COLORS,
    LABEL_SIZE,
    SEQUENTIAL,
    TICK_SIZE,
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
LARGEST = 10  # losses on the plane beyond so many times the largest of the path look alike


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


def draw_sharpness(reading: Reading, title: str) -> "Figure | None":
    """Mean change of the loss against the distance, on each scale."""
    units = {
        "absolute": "distance",
        "relative": "distance / norm of the weights",
        "filter": "distance, filter-normalised",
    }
    found = {scale: units[scale] for scale in units if scale in reading.details}
    if not found:
        return None
    figure, panels = _panels(len(found), f"Sharpness of the training loss, {title}", sharey=True)
    for axes, (scale, unit) in zip(panels, found.items()):
        curve = reading.details[scale]
        errors = np.array(curve["standard_errors"], float)  # NaN for a single direction
        errors = None if np.isnan(errors).any() else errors
        axes.errorbar(curve["radii"], curve["changes"], errors, marker="o", capsize=3)
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(curve["radii"], [f"{radius:g}" for radius in curve["radii"]])
        axes.set_xticks([], minor=True)
        style_axes(axes, "", unit, "mean |change of loss|")
    return figure


def draw_hessian(reading: Reading, title: str) -> "Figure | None":
    """Spectral density, on a logarithmic axis, with both ends of the spectrum marked."""
    density = reading.details.get("density")
    if density is None:
        return None
    figure, [axes] = _panels(1, f"Hessian of the training loss, {title}", width=6.5)
    axes.plot(density["grid"], density["density"], lw=1.5, label="spectral density")
    for end, color in (("largest", COLORS[1]), ("smallest", COLORS[2])):
        axes.plot([], [], color=color, lw=0.8, label=f"{end} eigenvalues")
        for value in reading.details["ends"][end]["eigenvalues"]:
            axes.axvline(value, color=color, lw=0.8, alpha=0.6)
    axes.set(yscale="log", ylim=(max(max(density["density"]) * 1e-7, 1e-12), None))
    style_axes(axes, "", "eigenvalue", "density")
    axes.legend(fontsize=TICK_SIZE)
    return figure


def draw_landscape(reading: Reading, title: str) -> "Figure":
    """The loss on the plane of the path, with the path; and on the line from start to end."""
    from matplotlib.colors import LogNorm
    from matplotlib.patheffects import withStroke

    details = reading.details
    figure, (plane, line) = _panels(2, f"Training loss along the path, {title}", width=5)
    a, b = details["plane"]["a"], details["plane"]["b"]
    losses = np.array(details["plane"]["losses"], float).T  # null, infinity in JSON, becomes NaN
    lowest = max(np.nanmin(losses), 1e-12)
    highest = max(min(np.nanmax(losses), LARGEST * max(details["path_losses"])), 1.01 * lowest)
    levels, scale = np.geomspace(lowest, highest, 14), LogNorm(lowest, highest)
    shown = np.nan_to_num(losses, nan=np.inf).clip(lowest, 2 * highest)
    filled = plane.contourf(a, b, shown, levels=levels, norm=scale, cmap=SEQUENTIAL, extend="max")
    path = np.array(details["coordinates"])
    plane.plot(*path.T, "-o", color="white", ms=4, lw=1.2, mec="black", mew=0.6)
    for index in (0, -1):
        label = f"epoch {details['epochs_trained'][index]:g}"
        left = path[index, 0] < (a[0] + a[-1]) / 2  # text runs towards the middle
        place = {"xytext": (7 if left else -7, 4), "ha": "left" if left else "right"}
        place["path_effects"] = [withStroke(linewidth=2, foreground="black")]
        plane.annotate(label, path[index], textcoords="offset points", color="white", **place)
    first, second = (100 * part for part in details["explained_variance"])
    labels = f"first component ({first:.1f} % of the path)", f"second ({second:.1f} %)"
    style_axes(plane, "plane of the path", *labels)
    plane.grid(False)
    add_colorbar(figure, filled, plane, "loss", format="%.2g")
    line.plot(details["line"]["positions"], details["line"]["losses"])
    style_axes(line, "straight line", "position between start (0) and end (1)", "loss")
    return figure


def draw_symmetry(reading: Reading, title: str) -> "Figure | None":
    """For every relaxed layer over a group, how differently it treats two elements."""
    found = reading.details.get("layers", {})
    layers = {name: layer for name, layer in found.items() if layer["over_group"]}
    if not layers:
        return None
    title = f"How differently relaxed layers treat group elements, {title}"
    figure, panels = _panels(len(layers), title, width=2.7)
    limit = max(np.max(layer["over_group"]["differences"]) for layer in layers.values()) or 1.0
    for axes, (name, layer) in zip(panels, layers.items()):
        table = np.array(layer["over_group"]["differences"], float)
        table[np.triu_indices(len(table))] = np.nan  # it is symmetric, and 0 along the diagonal
        image = axes.imshow(table[1:, :-1], vmin=0, vmax=limit, cmap=SEQUENTIAL)
        labels = element_labels(make_group(layer["over_group"]["group"]))
        named = range(len(labels) - 1 if len(labels) <= MAX_ANNOTATED else 0)
        axes.set_xticks(named, labels[: len(named)], rotation=90)
        axes.set_yticks(named, labels[1:][: len(named)] if axes is panels[0] else [""] * len(named))
        subtitle = f"{name}\nsymmetric part {layer['symmetric_fraction']:.4f}"
        axes.set_title(subtitle, fontsize=LABEL_SIZE)
        hide_frame(axes)
    add_colorbar(figure, image, panels, "relative difference")
    return figure


DRAWERS: dict[str, Callable[[Reading, str], "Figure | None"]] = {
    "equivariance_error": draw_equivariance_error,
    "lie_derivative": draw_lie_derivative,
    "sharpness": draw_sharpness,
    "hessian": draw_hessian,
    "landscape": draw_landscape,
    "symmetry": draw_symmetry,
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
