"""Curves of several runs: one colour and line style per row, seeds thin, their mean thick."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from src.plots.style import COLORS, TICK_SIZE, network_color, new_figure, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE_STYLES = ("-", "--", ":", "-.")
COLUMNS = 3
WIDE_RANGE = 100.0  # from this ratio of largest to smallest on, the axis is logarithmic


@dataclass(frozen=True)
class Curves:
    """Curves of one row of runs; a row without any is not drawn.

    Attributes:
        seeds: values by position on the horizontal axis, one series per seed.
        mean: columns ``mean``, ``low`` and ``high`` by position, NaN where there is no band; None
            where seeds are all there is to draw.
    """

    seeds: Sequence[pd.Series]
    mean: pd.DataFrame | None = None


def plot_curves(
    panels: Mapping[str, Sequence[Curves]],
    labels: Sequence[str],
    networks: Sequence[str],
    x_label: str,
    *,
    swept: bool = False,
) -> "Figure":
    """Draw one panel per entry, with one legend for all of them.

    Args:
        panels: curves by title, one for each row of runs.
        labels: names of the rows.
        networks: class of each row's network, which chooses its colour.
        x_label: label of the horizontal axis.
        swept: whether positions are values of a swept key: points are marked, and the axis is
            logarithmic where they cover orders of magnitude.
    """
    from matplotlib.lines import Line2D

    columns = min(len(panels), COLUMNS)
    rows = math.ceil(len(panels) / columns)
    width = 6.0 if len(panels) == 1 else 3.6 * columns
    figure, all_axes = new_figure(width, 3.0 * rows + 0.4, rows=rows, columns=columns)
    for unused in all_axes.flat[len(panels) :]:
        unused.set_axis_off()
    styles = line_styles(networks)
    for axes, (title, curves_of_rows) in zip(all_axes.flat, panels.items()):
        for curves, style in zip(curves_of_rows, styles):
            marked = {**style, "marker": "o", "markersize": 3} if swept else style
            mean = curves.mean
            width, alpha = (1.2, 0.8) if mean is None else (0.6, 0.35)
            for seed in curves.seeds:
                axes.plot(seed.index, seed.to_numpy(), lw=width, alpha=alpha, **marked)
            if mean is not None:
                axes.plot(mean.index, mean["mean"], lw=1.8, **marked)
                edges = (mean.index, mean["low"].to_numpy(), mean["high"].to_numpy())
                axes.fill_between(*edges, color=style["color"], alpha=0.15, lw=0)
        seeds = [seed for curves in curves_of_rows for seed in curves.seeds]
        _scale(axes, "y", [value for seed in seeds for value in seed])
        positions = [float(x) for seed in seeds for x in seed.index]
        if not (swept and _scale(axes, "x", positions)) and all(x.is_integer() for x in positions):
            axes.xaxis.get_major_locator().set_params(integer=True)
        style_axes(axes, title, x_label)
    shown = [any(row.seeds for row in rows) for rows in zip(*panels.values())]
    names = [label for label, visible in zip(labels, shown) if visible]
    lines = [Line2D([], [], lw=1.8, **style) for style, visible in zip(styles, shown) if visible]
    columns = 1 if max(map(len, names)) > 40 else min(COLUMNS, len(names))
    place = {"loc": "outside lower center", "ncols": columns, "fontsize": TICK_SIZE}
    figure.legend(lines, names, **place)
    return figure


def line_styles(networks: Sequence[str]) -> list[dict[str, str]]:
    """Colour and line style of each row of runs.

    Several networks keep their own colours, and the rows of one network differ in line style;
    rows that would run out of styles differ in colour instead.
    """
    rows = Counter(networks)
    if len(rows) > 1 and max(rows.values()) <= len(LINE_STYLES):
        place = {network: i for i, network in enumerate(rows)}
        return [
            {"color": network_color(n, place[n]), "ls": LINE_STYLES[networks[:i].count(n)]}
            for i, n in enumerate(networks)
        ]
    turns = [divmod(i, len(COLORS)) for i in range(len(networks))]
    return [{"color": COLORS[c], "ls": LINE_STYLES[t % len(LINE_STYLES)]} for t, c in turns]


def _scale(axes: "Axes", which: str, values: Iterable[float]) -> bool:
    """Make an axis of positive values of several orders logarithmic; linear around 0 if present."""
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0]
    if not positive or min(finite) < 0 or max(positive) < WIDE_RANGE * min(positive):
        return False
    set_scale = axes.set_yscale if which == "y" else axes.set_xscale
    bottom = 0.0
    if min(finite) == 0:
        # Values near rounding, such as equivariance errors of 1e-8, are drawn as zero.
        set_scale("symlog", linthresh=max(min(positive), max(positive) * 1e-4))
    else:
        set_scale("log")
        bottom = max(min(positive) / 2, max(positive) * 1e-8)
    if which == "y":
        axes.set_ylim(bottom=bottom)
    return True
