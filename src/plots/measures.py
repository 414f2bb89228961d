"""One figure for each measure of a checkpoint, drawn from what it found."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from src.measures import Reading
from src.models.components.gcnn.groups import make_group
from src.plots.style import add_colorbar, hide_frame
from src.plots.weights import element_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEQUENTIAL = "viridis"
MAX_ANNOTATED = 16  # group elements; maps of more carry no numbers
CONTOURS = 14
LARGEST = 10  # losses on the plane beyond so many times the largest of the path look alike


def draw(measure: str, reading: Reading, title: str) -> "Figure | None":
    """The figure of a measure; None where it has none, or found nothing to draw.

    Args:
        measure: its name, as in ``configs/measure``.
        reading: what it found.
        title: of which network.
    """
    drawer = DRAWERS.get(measure)
    return None if drawer is None else drawer(reading, title)


def draw_equivariance_error(reading: Reading, title: str) -> "Figure | None":
    """Error against the angle, with the floor of interpolation; and the error of each layer."""
    layers = _of_layers(reading, "equivariance_error")
    angles = reading.details.get("angles")
    if angles is None and not layers:
        return None
    figure, axes = _figure(2 if angles and layers else 1, f"Equivariance error, {title}")
    if angles:
        _draw_angles(axes[0], angles)
    if layers:
        _bars(axes[-1], layers, f"per layer, {reading.details['group'].upper()}")
    return figure


def draw_lie_derivative(reading: Reading, title: str) -> "Figure | None":
    """What each layer contributes, under every transformation."""
    names = ("lie_derivative", "lie_derivative_translation_x", "lie_derivative_translation_y")
    titles = ("rotation, per radian", "translation along x, per pixel", "along y, per pixel")
    found = [
        (title_, layers)
        for name, title_ in zip(names, titles)
        if (layers := _of_layers(reading, name))
    ]
    if not found:
        return None
    figure, axes = _figure(len(found), f"Lie derivative (RMS of the output), {title}")
    for place, (subtitle, layers) in zip(axes, found):
        _bars(place, layers, subtitle)
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
    figure, axes = _figure(len(found), f"Sharpness of the training loss, {title}")
    for place, (scale, unit) in zip(axes, found.items()):
        curve = reading.details[scale]
        errors = np.array(curve["standard_errors"], float)  # NaN for a single direction
        errors = None if np.isnan(errors).any() else errors
        place.errorbar(curve["radii"], curve["changes"], errors, marker="o", capsize=3)
        place.set(xlabel=unit, ylabel="mean |change of loss|", xscale="log", yscale="log")
        place.set_xticks(curve["radii"], [f"{radius:g}" for radius in curve["radii"]])
        place.set_xticks([], minor=True)
        place.grid(alpha=0.3)
    return figure


def draw_hessian(reading: Reading, title: str) -> "Figure | None":
    """Spectral density, on a logarithmic axis, with both ends of the spectrum marked."""
    density = reading.details.get("density")
    if density is None:
        return None
    figure, (axes,) = _figure(1, f"Hessian of the training loss, {title}", width=6.5)
    grid, values = np.array(density["grid"]), np.array(density["density"])
    axes.plot(grid, values, lw=1.5, label="spectral density")
    for end, color in (("largest", "C3"), ("smallest", "C0")):
        for value in reading.details["ends"][end]["eigenvalues"]:
            axes.axvline(value, color=color, lw=0.8, alpha=0.6)
    axes.plot([], [], color="C3", lw=0.8, label="largest eigenvalues")
    axes.plot([], [], color="C0", lw=0.8, label="smallest eigenvalues")
    axes.set(xlabel="eigenvalue", ylabel="density", yscale="log")
    axes.set_ylim(bottom=max(values.max() * 1e-7, 1e-12))
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure


def draw_landscape(reading: Reading, title: str) -> "Figure":
    """The loss on the plane of the path, with the path; and on the line from start to end."""
    details = reading.details
    figure, (on_plane, on_line) = _figure(2, f"Training loss along the path, {title}", width=5)
    _draw_plane(figure, on_plane, details)
    line = details["line"]
    on_line.plot(line["positions"], line["losses"])
    on_line.set(
        xlabel="position between start (0) and end (1)", ylabel="loss", title="straight line"
    )
    on_line.grid(alpha=0.3)
    return figure


def draw_symmetry(reading: Reading, title: str) -> "Figure | None":
    """For every relaxed layer over a group, how differently it treats two elements."""
    found = reading.details.get("layers", {})
    layers = {name: layer for name, layer in found.items() if layer["over_group"]}
    if not layers:
        return None
    figure, axes = _figure(
        len(layers), f"How differently relaxed layers treat group elements, {title}", width=2.7
    )
    limit = max(np.max(layer["over_group"]["differences"]) for layer in layers.values()) or 1.0
    for place, (name, layer) in zip(axes, layers.items()):
        table = np.array(layer["over_group"]["differences"])
        image = place.imshow(table, vmin=0, vmax=limit, cmap=SEQUENTIAL)
        labels = element_labels(make_group(layer["over_group"]["group"]))
        labels = labels if len(table) <= MAX_ANNOTATED else [""] * len(table)
        place.set_xticks(range(len(table)), labels, rotation=90)
        place.set_yticks(range(len(table)), labels if place is axes[0] else [""] * len(table))
        place.set_title(f"{name}\nsymmetric part {layer['symmetric_fraction']:.4f}", fontsize=8)
        hide_frame(place)
    add_colorbar(figure, image, axes, "relative difference", 2.7)
    return figure


DRAWERS: dict[str, Callable[[Reading, str], "Figure | None"]] = {
    "equivariance_error": draw_equivariance_error,
    "lie_derivative": draw_lie_derivative,
    "sharpness": draw_sharpness,
    "hessian": draw_hessian,
    "landscape": draw_landscape,
    "symmetry": draw_symmetry,
}


def _figure(columns: int, title: str, width: float = 4.0) -> tuple["Figure", "np.ndarray"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(width * columns, 4.5), 3.6), layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _of_layers(reading: Reading, name: str) -> dict[str, float]:
    prefix = f"{name}/"
    values = reading.values.items()
    return {n.removeprefix(prefix): v for n, v in values if n.startswith(prefix)}


def _bars(axes: "Axes", layers: dict[str, float], title: str) -> None:
    names = [name.removeprefix("blocks.") for name in layers]
    axes.bar(range(len(names)), list(layers.values()), color="C0")
    axes.set_xticks(range(len(names)), names)
    axes.set(title=title, xlabel="block")
    axes.title.set_fontsize(9)
    axes.grid(axis="y", alpha=0.3)


def _draw_angles(axes: "Axes", angles: dict[str, list[float]]) -> None:
    for name, label, style in (
        ("errors", "network", "-o"),
        ("floors", "floor: there and back", "--"),
    ):
        degrees, values = [*angles["degrees"], 360.0], [*angles[name], angles[name][0]]
        axes.plot(degrees, values, style, ms=3, lw=1.2, label=label)
    axes.set(xlabel="angle, degrees", title="per angle", xticks=range(0, 361, 90))
    axes.title.set_fontsize(9)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)


def _draw_plane(figure: "Figure", axes: "Axes", details: dict[str, Any]) -> None:
    from matplotlib.colors import LogNorm

    a, b = details["plane"]["a"], details["plane"]["b"]
    losses = np.array(details["plane"]["losses"], float).T  # null, infinity in JSON, becomes NaN
    lowest = max(np.nanmin(losses), 1e-12)
    highest = max(min(np.nanmax(losses), LARGEST * max(details["path_losses"])), 1.01 * lowest)
    levels, scale = np.geomspace(lowest, highest, CONTOURS), LogNorm(lowest, highest)
    shown = np.nan_to_num(losses, nan=np.inf).clip(lowest, 2 * highest)
    filled = axes.contourf(a, b, shown, levels=levels, norm=scale, cmap=SEQUENTIAL, extend="max")
    path = np.array(details["coordinates"])
    axes.plot(*path.T, "-o", color="white", ms=4, lw=1.2, mec="black", mew=0.6)
    for index in (0, -1):
        label = f"epoch {details['epochs_trained'][index]:g}"
        left = path[index, 0] < (a[0] + a[-1]) / 2  # text runs towards the middle
        place = {"xytext": (7 if left else -7, 4), "ha": "left" if left else "right"}
        axes.annotate(label, path[index], textcoords="offset points", color="white", **place)
    first, second = (100 * part for part in details["explained_variance"])
    axes.set(
        xlabel=f"first component ({first:.1f} % of the path)",
        ylabel=f"second ({second:.1f} %)",
        title="plane of the path",
    )
    bar = figure.colorbar(filled, ax=axes, label="loss", format="%.2g")
    bar.ax.tick_params(labelsize=8)
