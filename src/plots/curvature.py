"""Figures of how the loss changes around a network's weights, and of its second derivatives."""

from typing import TYPE_CHECKING

import numpy as np

from src.measures import Reading
from src.plots.style import COLORS, TICK_SIZE, new_figure, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNITS = {
    "absolute": "distance",
    "relative": "distance / norm of the weights",
    "filter": "distance, filter-normalised",
}
CHANGES = {  # by kind of change: its label, its closed form and the label of that
    "absolute": ("absolute (mostly gradient)", "from_gradient", "from the gradient"),
    "symmetric": ("symmetric (curvature)", "from_trace", "from the trace"),
}


def draw_sharpness(reading: Reading, title: str) -> "Figure | None":
    """Mean changes of the loss against the distance, on each scale, with their closed forms.

    The sizes of symmetric changes are drawn; a hollow point stands for a fall of the loss.
    """
    found = {scale: unit for scale, unit in UNITS.items() if scale in reading.details}
    if not found:
        return None
    size, columns = (max(4.0 * len(found), 4.5), 3.6), len(found)
    title = f"Change of the training loss in random directions, {title}"
    figure, [panels] = new_figure(*size, title, columns=columns, sharey=True)
    for axes, (scale, unit) in zip(panels, found.items()):
        curve = reading.details[scale]
        for color, (kind, (label, form, of_form)) in zip(COLORS, CHANGES.items()):
            changes = np.array(curve[kind], float)
            errors = np.array(curve[f"{kind}_standard_errors"], float)  # NaN of one direction
            errors = None if np.isnan(errors).any() else np.minimum(errors, 0.999 * abs(changes))
            style = {"fmt": "o", "color": color, "ms": 5, "capsize": 3, "zorder": 3}
            axes.errorbar(curve["radii"], abs(changes), errors, label=label, **style)
            falls = np.where(changes < 0, abs(changes), np.nan)
            axes.plot(curve["radii"], falls, "o", color=color, ms=5, mfc="white", zorder=4)
            if form in curve:
                axes.plot(curve["radii"], curve[form], "--", color=color, lw=1.2, label=of_form)
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(curve["radii"], [f"{radius:g}" for radius in curve["radii"]])
        axes.set_xticks([], minor=True)
        style_axes(axes, "", unit, "mean change of the loss" if axes is panels[0] else "")
    panels[0].legend(fontsize=TICK_SIZE)
    return figure


def draw_hessian(reading: Reading, title: str) -> "Figure | None":
    """Spectral density with both ends of the spectrum, and the trace by kind of parameter."""
    density = reading.details.get("density")
    if density is None:
        return None
    name = f"{reading.details['kind']}_trace"
    figure, [[axes, bars]] = new_figure(
        9.5, 3.6, f"Hessian of the training loss, {title}", columns=2, width_ratios=[2, 1]
    )
    grid, values, errors = (np.array(density[n]) for n in ("grid", "density", "density_error"))
    axes.plot(grid, values, lw=1.5, label="spectral density, standard error")
    axes.fill_between(grid, np.maximum(values - errors, 1e-300), values + errors, alpha=0.25, lw=0)
    for end, color in (("largest", COLORS[1]), ("smallest", COLORS[2])):
        axes.plot([], [], color=color, lw=0.8, label=f"{end} eigenvalues")
        for value in reading.details["ends"][end]["eigenvalues"]:
            axes.axvline(value, color=color, lw=0.8, alpha=0.6)
    axes.set(yscale="log", ylim=(max(max(density["density"]) * 1e-7, 1e-12), None))
    style_axes(axes, "", "eigenvalue", "density")
    axes.legend(fontsize=TICK_SIZE)

    start = f"{name}_by_kind/"
    kinds = [n.removeprefix(start) for n in reading.values if n.startswith(start)]
    parts = [reading.values[f"{start}{kind}"] for kind in kinds]
    errors = [reading.values[f"{name}_by_kind_standard_error/{kind}"] for kind in kinds]
    labels = [kind.replace("_", "\n") for kind in kinds]
    bars.bar(range(len(kinds)), parts, yerr=errors, capsize=3, tick_label=labels)
    total, error = (reading.values[f"{name}{end}"] for end in ("", "_standard_error"))
    style_axes(bars, f"trace {total:.3g} ± {error:.1g}", "kind of parameter")
    return figure
