import math

import pandas as pd
import pytest

from src.plots.curves import Curves, line_styles, plot_curves
from src.plots.style import NETWORK_COLORS

ROWS = [(["GCNN", "CNN"], 1), (["CNN", "CNN", "GCNN"], 2)]
ROWS += [(["CNN"] * 5, 1), (["GCNN", *["CNN"] * 5], 1)]


@pytest.mark.parametrize("networks, num_styles", ROWS)
def test_networks_keep_their_colours_and_every_row_its_own_style(networks, num_styles):
    styles = line_styles(networks)
    if networks.count("CNN") < 5:
        assert [style["color"] for style in styles] == [NETWORK_COLORS[name] for name in networks]
    assert len({style["ls"] for style in styles}) == num_styles
    assert len({tuple(style.values()) for style in styles}) == len(networks)


def curves(*values, x=(0, 1, 2)):
    seeds = [pd.Series(v, x) for v in values]
    mean = pd.concat(seeds).groupby(level=0).agg(mean="mean", low="min", high="max")
    return Curves(seeds, mean)


def test_seeds_are_thin_and_their_mean_thick_with_a_band():
    panels = {"loss": [curves([1, 2, 3], [3, 4, 5]), Curves([])]}
    figure = plot_curves(panels, ["CNN", "absent"], ["CNN", "GCNN"], "epochs trained")
    (axes,) = figure.axes
    *seeds, mean = axes.lines
    assert [list(line.get_ydata()) for line in seeds] == [[1, 2, 3], [3, 4, 5]]
    assert list(mean.get_ydata()) == [2, 3, 4]
    assert mean.get_linewidth() > seeds[0].get_linewidth()
    edges = axes.collections[0].get_paths()[0].vertices
    assert (edges[:, 1].min(), edges[:, 1].max()) == (1, 5)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["CNN"]


def test_seeds_without_a_mean_are_drawn_as_lines():
    rows = [Curves([pd.Series([1e-7, 1.0])]), Curves([])]
    figure = plot_curves({"density": rows}, ["CNN", "absent"], ["CNN", "GCNN"], "eigenvalue")
    [line] = figure.axes[0].lines
    assert line.get_alpha() > 0.5 and figure.axes[0].get_yscale() == "log"


VALUES = [([1, 2, 3], "linear"), ([-1, 1, 1e4], "linear")]
VALUES += [([1e-8, 1e-3, math.nan], "log"), ([0, 1e-5, 0.1], "symlog")]


@pytest.mark.parametrize("values, scale", VALUES)
def test_axes_are_logarithmic_where_values_cover_orders_of_magnitude(values, scale):
    for x, swept, x_scale in (((0, 1e-4, 1e-2), True, "symlog"), ((0, 1, 2), False, "linear")):
        panels = {"t": [curves(values, x=x)]}
        [axes] = plot_curves(panels, ["CNN"], ["CNN"], "alpha", swept=swept).axes
        assert (axes.get_xscale(), axes.get_yscale()) == (x_scale, scale)
