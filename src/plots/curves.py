"""Curves of several runs: one colour per network, one line style per variant of a network."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from src.plots.style import (
    BASELINE_COLORS,
    COLORS,
    TICK_SIZE,
    network_color,
    new_figure,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE_STYLES = ("-", "--", ":", "-.")
COLUMNS = 3
MOST_NAMED = 16  # rows in a legend; of more it names the networks alone
# From this ratio of largest to smallest on, an axis of metrics or of swept values is logarithmic.
WIDE_RANGE, WIDE_SWEEP = 100.0, 10.0
MOST_TICKS, LEAST_GAP = 7, 0.08  # of labels at swept values, the gap as a part of the axis
LEAST_SKILL = -1.0  # on an axis
LONGEST_NAME = 36  # characters of a metric in a line beside an axis


class Row(NamedTuple):
    """Whose curves they are: a label, the class of the network, what tells rows of it apart."""

    label: str
    network: str
    variant: str = ""


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
    rows: Sequence[Row],
    x_label: str,
    *,
    swept: bool = False,
    share_y: bool = False,
    columns: int = COLUMNS,
) -> "Figure":
    """Draw one panel per entry, with one legend for all of them.

    Seeds are thin lines where there is no band, and points where the positions were swept; of
    more than 16 rows only means are drawn. The vertical axis reaches as far as seeds and means do;
    a band may leave it. Skill has a line at zero, and an axis that ends at -1, below which it does
    not matter how much worse than knowing nothing a forecast is.

    Args:
        panels: curves, one for each row of runs, by the metric; what else a panel is of stands
            after a comma, as in ``test/skill, level=4``.
        rows: whose curves they are.
        x_label: label of the horizontal axis.
        swept: whether positions are values of a swept key: the axis is logarithmic where they
            cover orders of magnitude.
        share_y: whether all panels have one vertical axis.
        columns: panels beside one another.
    """
    columns = min(len(panels), columns)
    lines = math.ceil(len(panels) / columns)
    width = 6.0 if len(panels) == 1 else 3.6 * columns
    size, shape = (width, 3.0 * lines + 0.4), {"rows": lines, "columns": columns}
    figure, all_axes = new_figure(*size, **shape, sharey=share_y)
    for unused in all_axes.flat[len(panels) :]:
        unused.set_axis_off()
    styles, crowded = line_styles(rows), len(rows) > MOST_NAMED
    everything = [curves for curves_of_rows in panels.values() for curves in curves_of_rows]
    for axes, curves_of_rows in zip(all_axes.flat, panels.values()):
        _draw_lines(axes, curves_of_rows, styles, swept, crowded)
    for axes, (title, curves_of_rows) in zip(all_axes.flat, panels.items()):
        _scale(axes, "y", _values(everything if share_y else curves_of_rows))
        metric, _, rest = title.partition(", ")
        axes.set_ylim(axes.get_ylim())  # of the lines, before there are bands
        if metric.endswith("/skill"):
            axes.axhline(0, color="black", lw=0.8, zorder=1)
            axes.set_ylim(max(LEAST_SKILL, min(0.0, axes.get_ylim()[0])), 1)
        for curves, style in zip(curves_of_rows, styles):
            if curves.mean is not None and not crowded:
                edges = (curves.mean["low"].to_numpy(), curves.mean["high"].to_numpy())
                axes.fill_between(curves.mean.index, *edges, color=style["color"], alpha=0.2, lw=0)
        positions = [float(x) for curves in curves_of_rows for s in curves.seeds for x in s.index]
        _place_ticks(axes, positions, swept)
        if len(metric) > LONGEST_NAME:
            metric = "/\n".join(metric.rsplit("/", 1))
        style_axes(axes, rest, x_label, metric)
    shown = [any(curves.seeds for curves in of_row) for of_row in zip(*panels.values())]
    _add_legend(figure, [pair for pair, visible in zip(zip(rows, styles), shown) if visible])
    return figure


def line_styles(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Colour and line style of each row of runs.

    Of several networks each keeps its own colour, and a line style stands for the same variant in
    all of them; variants beyond the number of styles are lighter. Variants of a single network
    differ in colour instead. Of more than 16 rows, all lines of a network look alike. Forecasts
    that know nothing are no network, and grey.
    """
    from matplotlib.colors import to_hex, to_rgb

    variants = list(dict.fromkeys(row.variant for row in rows))
    networks = list(dict.fromkeys(r.network for r in rows if r.network not in BASELINE_COLORS))
    styles = []
    for row in rows:
        place = 0 if len(rows) > MOST_NAMED else variants.index(row.variant)
        if len(networks) > 1 or row.network in BASELINE_COLORS:
            known = row.network in BASELINE_COLORS
            color = network_color(row.network, 0 if known else networks.index(row.network))
            turn, style = divmod(place, len(LINE_STYLES))
            white = 1 - 0.6**turn
            color = to_hex([part + white * (1 - part) for part in to_rgb(color)])
        else:
            style, place = divmod(variants.index(row.variant), len(COLORS))
            color = COLORS[place]
        styles.append({"color": color, "ls": LINE_STYLES[style % len(LINE_STYLES)]})
    return styles


def _draw_lines(
    axes: "Axes",
    curves_of_rows: Sequence[Curves],
    styles: Sequence[dict[str, str]],
    swept: bool,
    crowded: bool,
) -> None:
    """Draw seeds, but where a band stands for them, and means. The axis reaches as far as all."""
    from matplotlib.collections import LineCollection

    thin: list[np.ndarray] = []
    looks: list[tuple[str, str, float, float]] = []  # colour, style, width, alpha
    for curves, style in zip(curves_of_rows, styles):
        mean, alone = curves.mean, len(curves.seeds) == 1 or curves.mean is None
        banded = crowded or (mean is not None and bool(mean["low"].notna().any()))
        for seed in curves.seeds:
            points = np.column_stack([seed.index.to_numpy(float), seed.to_numpy(float)])
            axes.update_datalim(points[np.isfinite(points).all(1)])
            if swept:
                marks = {"marker": "o", "ms": 3.5, "ls": "none", "mew": 0, "alpha": 0.5}
                axes.plot(*points.T, color=style["color"], **marks)
            elif alone or not banded:
                thin.append(points)
                looks.append((*style.values(), *((1.0, 0.9) if alone else (0.6, 0.4))))
        if mean is not None and (swept or not alone):
            axes.plot(mean.index, mean["mean"], lw=0.9 if crowded else 1.8, **style)
    if thin:
        names = ("colors", "linestyles", "linewidths", "alpha")
        axes.add_collection(LineCollection(thin, **dict(zip(names, map(list, zip(*looks))))))
    axes.autoscale_view()


def _add_legend(figure: "Figure", drawn: Sequence[tuple[Row, dict[str, str]]]) -> None:
    """Name the rows above the panels; of too many, the networks."""
    from matplotlib.lines import Line2D

    entries: dict[str, dict[str, str]] = {}
    for row, style in drawn:
        entries.setdefault(row.label if len(drawn) <= MOST_NAMED else row.network, style)
    if len(entries) == 1 < len(drawn):
        return
    lines = [Line2D([], [], lw=1.8, **style) for style in entries.values()]
    columns = 1 if max(map(len, entries)) > 40 else min(COLUMNS, len(entries))
    place = {"loc": "outside upper center", "ncols": columns, "fontsize": TICK_SIZE}
    figure.legend(lines, list(entries), **place)


def _values(curves_of_rows: Sequence[Curves]) -> list[float]:
    return [value for curves in curves_of_rows for seed in curves.seeds for value in seed]


def _place_ticks(axes: "Axes", positions: Sequence[float], swept: bool) -> None:
    """Ticks at swept values, if these are few and far apart; at whole numbers where all are."""
    values = sorted(set(positions))
    if swept:
        _scale(axes, "x", values, WIDE_SWEEP)
        places = axes.transScale.transform([(value, 1.0) for value in values])[:, 0]
        if len(values) <= MOST_TICKS and all(np.diff(places) > LEAST_GAP * np.ptp(places)):
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.set_xticks([], minor=True)
    elif all(x.is_integer() for x in values):
        axes.xaxis.get_major_locator().set_params(integer=True)


def _scale(axes: "Axes", which: str, values: Iterable[float], wide: float = WIDE_RANGE) -> None:
    """Make an axis of positive values of several orders logarithmic; linear around 0 if present."""
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0]
    if not positive or min(finite) < 0:
        return
    if max(positive) < (WIDE_RANGE if 0 in finite else wide) * min(positive):
        return
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
