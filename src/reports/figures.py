"""Figures over seeds: curves with bands, spectra, errors against the angle."""

import io
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from src.reports.curves import Band, band
from src.reports.grouping import Group
from src.reports.metrics import measured_checkpoint
from src.reports.reading import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours without yellow, which readers without full colour vision tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", ":", "-.")
FORMATS = ("svg", "png", "pdf")
COLUMNS = 3
WIDE_RANGE = 100.0  # from here on the axis is logarithmic
FLOOR = 1e-7  # of logarithmic bands that reach zero, relative to the largest value
DOTS_PER_INCH = 150


def encoded(figure: "Figure", kind: str) -> bytes:
    """A figure as a file of a format; the same bytes for the same figure."""
    from matplotlib import rc_context

    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "report"}):
        figure.savefig(
            buffer,
            format=kind,
            dpi=DOTS_PER_INCH,
            bbox_inches="tight",
            metadata=dates[kind],
        )
    return buffer.getvalue()


def draw_curves(groups: Sequence[Group], names: Sequence[str], kind: str) -> "Figure | None":
    """Metrics against the number of epochs trained, one panel each; None where there is none.

    Args:
        groups: rows; each is the mean over its finished runs with a band, and thin lines.
        names: of the metrics.
        kind: of the band, see `band`.
    """
    panels = {name: _curves_by_group(groups, name) for name in names}
    panels = {name: curves for name, curves in panels.items() if any(curves)}
    if not panels:
        return None
    figure, all_axes = _panels(len(panels))
    for axes, (name, curves) in zip(all_axes, panels.items()):
        for place, of_group in enumerate(curves):
            if of_group:
                _draw_group(axes, of_group, band(of_group, kind), _style(place))
        values = [y for of_group in curves for curve in of_group for y in curve.values()]
        _scale(axes, values)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("epochs trained", fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True)
        _tidy(axes)
    _legend(figure, [g.label for g in groups], [any(c) for c in zip(*panels.values())])
    return figure


def draw_spectra(groups: Sequence[Group]) -> "Figure | None":
    """Spectral densities of the Hessian, one line per run; None where none was measured."""
    names = ("grid", "density")
    found = [_details(group, "hessian", "density", names) for group in groups]
    if not any(found):
        return None
    figure, (axes,) = _panels(1)
    for place, densities in enumerate(found):
        for density in densities:
            axes.plot(density["grid"], density["density"], lw=1.2, alpha=0.8, **_style(place))
    peak = max(np.nanmax(d["density"]) for densities in found for d in densities)
    axes.set(yscale="log", ylim=(max(peak * FLOOR, 1e-12), None))
    axes.set_xlabel("eigenvalue", fontsize=9)
    axes.set_ylabel("density", fontsize=9)
    axes.set_title("Hessian of the training loss", fontsize=10)
    _tidy(axes)
    _legend(figure, [group.label for group in groups], [bool(entry) for entry in found])
    return figure


def draw_angles(groups: Sequence[Group], kind: str) -> "Figure | None":
    """Equivariance error against the angle of rotation; None where it was not measured."""
    names = ("degrees", "errors", "floors")
    found = [_details(group, "equivariance_error", "angles", names) for group in groups]
    if not any(found):
        return None
    figure, (axes,) = _panels(1)
    for place, curves in enumerate(found):
        of_group = [dict(zip(curve["degrees"], curve["errors"])) for curve in curves]
        if of_group:
            _draw_group(axes, of_group, band(of_group, kind), _style(place))
    first = next(curve for curves in found for curve in curves)
    axes.plot(first["degrees"], first["floors"], color="0.5", lw=1, ls=":")
    axes.set_title("equivariance error (dotted grey: floor of interpolation)", fontsize=10)
    axes.set_xlabel("angle, degrees", fontsize=9)
    _tidy(axes)
    _legend(figure, [group.label for group in groups], [bool(entry) for entry in found])
    return figure


def layers_of(groups: Sequence[Group], name: str) -> list[str]:
    """Names of a metric's curves of single layers."""
    runs = [run for group in groups for run in group.finished.values()]
    return sorted({n for run in runs for n in run.curve_names() if n.startswith(f"{name}/")})


def _curves_by_group(groups: Sequence[Group], name: str) -> list[list[Curve]]:
    """Curves with more than one point, of each group's finished runs."""
    found = [[run.curve(name) for run in group.finished.values()] for group in groups]
    return [[curve for curve in curves if len(curve) > 1] for curves in found]


def _details(
    group: Group, measure: str, part: str, names: Sequence[str]
) -> list[dict[str, np.ndarray]]:
    """Lists in what a measure found of each finished run, where it was taken; null is NaN."""
    entries = [measured_checkpoint(run).get(measure) for run in group.finished.values()]
    found = [e["details"][part] for e in entries if e and e["details"].get(part)]
    return [{name: np.array(part_[name], dtype=float) for name in names} for part_ in found]


def _style(place: int) -> dict[str, str]:
    line = LINES[place // len(COLORS) % len(LINES)]
    return {"color": COLORS[place % len(COLORS)], "ls": line}


def _draw_group(axes: "Axes", curves: list[Curve], mean: Band, style: dict[str, str]) -> None:
    for curve in curves:
        axes.plot(list(curve), list(curve.values()), lw=0.6, alpha=0.35, **style)
    axes.plot(mean.positions, mean.mean, lw=1.8, **style)
    if mean.low:
        axes.fill_between(
            mean.positions, mean.low, mean.high, color=style["color"], alpha=0.15, lw=0
        )


def _scale(axes: "Axes", values: Iterable[float]) -> None:
    """A logarithmic axis for positive values of several orders; linear around 0 if 0 occurs."""
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0]
    if not positive or min(finite) < 0 or max(positive) < WIDE_RANGE * min(positive):
        return
    if min(finite) > 0:
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(min(positive) / 2, max(positive) * FLOOR / 10))
    else:
        axes.set_yscale("symlog", linthresh=max(min(positive), max(positive) * 1e-4))
        axes.set_ylim(bottom=0)


def _panels(number: int) -> tuple["Figure", list["Axes"]]:
    from matplotlib.figure import Figure

    columns = min(number, COLUMNS)
    rows = math.ceil(number / columns)
    width = 6.0 if number == 1 else 3.6 * columns
    figure = Figure(figsize=(width, 3.0 * rows + 0.4), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[number:]:
        unused.set_axis_off()
    return figure, axes[:number]


def _tidy(axes: "Axes") -> None:
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _legend(figure: "Figure", labels: list[str], shown: list[bool]) -> None:
    from matplotlib.lines import Line2D

    places = [place for place in range(len(labels)) if shown[place]]
    handles = [Line2D([], [], lw=1.8, label=labels[p], **_style(p)) for p in places]
    columns = 1 if max(len(labels[p]) for p in places) > 40 else min(3, len(places))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8)
