import math

import pandas as pd
import pytest
from matplotlib.colors import same_color, to_rgb

from src.plots.curves import MOST_NAMED, Curves, Row, line_styles, plot_curves
from src.plots.style import NETWORK_COLORS

CNN, GCNN = Row("CNN", "CNN"), Row("GCNN", "GCNN")


def test_colour_is_the_network_and_style_the_variant_in_all_of_them():
    rows = [Row(f"{n}, {v}", n, f"n={v}") for n in ("GCNN", "CNN") for v in range(6)][1:]
    styles = dict(zip((row.label for row in rows), line_styles(rows)))
    for variant in range(1, 6):  # the first line has no twin
        both = [styles[f"{n}, {variant}"] for n in ("GCNN", "CNN")]
        assert both[0]["ls"] == both[1]["ls"]
    assert same_color(styles["GCNN, 1"]["color"], NETWORK_COLORS["GCNN"])
    light, dark = (to_rgb(styles[f"GCNN, {v}"]["color"]) for v in (5, 1))
    assert light != dark and all(a >= b for a, b in zip(light, dark))
    assert len({tuple(style.values()) for style in styles.values()}) == len(rows)


def test_variants_of_a_single_network_differ_in_colour():
    styles = line_styles([Row(f"CNN, {v}", "CNN", f"{v}") for v in range(5)])
    assert len({style["color"] for style in styles}) == 5 and {s["ls"] for s in styles} == {"-"}


def curves(*values, x=(0, 1, 2), margin=0.0):
    seeds = [pd.Series(v, x) for v in values]
    mean = pd.concat(seeds).groupby(level=0).agg(mean="mean", low="min", high="max")
    return Curves(seeds, mean.assign(low=mean["low"] - margin, high=mean["high"] + margin))


def thin_lines(axes):
    return [segment for collection in axes.collections[:1] for segment in collection.get_segments()]


def test_below_a_band_seeds_are_thin_and_their_mean_thick():
    few = curves([1, 2, 3], [3, 4, 5], margin=math.nan)
    figure = plot_curves({"loss": [few, Curves([])]}, [CNN, GCNN], "epochs trained")
    (axes,) = figure.axes
    assert [list(line[:, 1]) for line in thin_lines(axes)] == [[1, 2, 3], [3, 4, 5]]
    [mean] = axes.lines
    assert list(mean.get_ydata()) == [2, 3, 4]
    assert mean.get_linewidth() > axes.collections[0].get_linewidth()[0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["CNN"]


def test_a_band_stands_for_the_seeds_and_does_not_widen_the_axis():
    wide = curves([1, 2, 3], [3, 4, 5], margin=100.0)
    (axes,) = plot_curves({"loss": [wide]}, [CNN], "epochs trained").axes
    [band] = axes.collections
    assert len(axes.lines) == 1
    edges = band.get_paths()[0].vertices
    assert (edges[:, 1].min(), edges[:, 1].max()) == (-99, 105)
    bottom, top = axes.get_ylim()
    assert 0.5 < bottom <= 1 and 5 <= top < 5.5  # as far as the seeds


def test_seeds_without_a_mean_are_drawn_as_lines():
    rows = [Curves([pd.Series([1e-7, 1.0])]), Curves([])]
    (axes,) = plot_curves({"density": rows}, [CNN, GCNN], "eigenvalue").axes
    assert len(thin_lines(axes)) == 1 and axes.collections[0].get_alpha()[0] > 0.5
    assert axes.get_yscale() == "log"


def test_swept_seeds_are_points_and_the_values_ticks():
    line = curves([1, 2, 3], [3, 4, 5], x=(300, 700, 3500))
    (axes,) = plot_curves({"acc": [line]}, [CNN], "num_train", swept=True).axes
    *points, mean = axes.lines
    assert [list(p.get_ydata()) for p in points] == [[1, 2, 3], [3, 4, 5]]
    assert {p.get_linestyle() for p in points} == {"None"} and mean.get_linestyle() == "-"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["300", "700", "3500"]
    assert axes.get_xscale() == "log"


def test_shared_axes_reach_as_far_as_all_panels():
    panels = {"a": [curves([1, 2, 3])], "b": [curves([1, 2, 30])]}
    axes = plot_curves(panels, [CNN], "epochs trained", share_y=True).axes
    assert axes[0].get_ylim() == axes[1].get_ylim() and axes[0].get_ylim()[1] > 29


def test_of_too_many_rows_the_networks_are_named():
    rows = [Row(f"{n}, {v}", n, f"{v}") for n in ("CNN", "GCNN") for v in range(MOST_NAMED)]
    figure = plot_curves({"acc": [curves([1, 2, 3])] * len(rows)}, rows, "epochs trained")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["CNN", "GCNN"]
    single = [Row(f"CNN, {v}", "CNN", f"{v}") for v in range(MOST_NAMED + 1)]
    assert not plot_curves(
        {"acc": [curves([1, 2, 3])] * len(single)}, single, "epochs trained"
    ).legends


VALUES = [([1, 2, 3], "linear"), ([-1, 1, 1e4], "linear")]
VALUES += [([1e-8, 1e-3, math.nan], "log"), ([0, 1e-5, 0.1], "symlog")]


@pytest.mark.parametrize("values, scale", VALUES)
def test_axes_are_logarithmic_where_values_cover_orders_of_magnitude(values, scale):
    for x, swept, x_scale in (((0, 1e-4, 1e-2), True, "symlog"), ((0, 1, 2), False, "linear")):
        panels = {"t": [curves(values, x=x)]}
        [axes] = plot_curves(panels, [CNN], "alpha", swept=swept).axes
        assert (axes.get_xscale(), axes.get_yscale()) == (x_scale, scale)
