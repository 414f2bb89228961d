import math

import pandas as pd
import pytest
from matplotlib.colors import same_color, to_rgb

from src.plots.curves import MOST_NAMED, Curves, Row, line_styles, plot_curves
from src.plots.style import BASELINE_COLORS, NETWORK_COLORS

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
    rows = [Row("CNN, 1", "CNN", "1"), Row("CNN, 2", "CNN", "2"), Row("b", "last frame repeated")]
    *both, known = line_styles(rows)
    assert both == styles[:2] and known["color"].upper() == BASELINE_COLORS["last frame repeated"]


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


def test_swept_values_that_lie_too_close_are_no_ticks():
    for x, named in (((0, 30, 180), True), ((0, 5, 180), False), ((1, 5, 180), True)):
        (axes,) = plot_curves({"acc": [curves([1, 2, 3], x=x)]}, [CNN], "k", swept=True).axes
        assert (list(axes.get_xticks()) == list(x)) == named, x


def test_axes_are_named_and_skill_has_a_line_at_zero_and_ends_at_minus_one():
    panels = {
        "test/skill, level=4": [curves([0.5, 0.2, -90])],
        "a/skill": [curves([0.5, 0.4, 0.3])],
    }
    for axes, bottom in zip(plot_curves(panels, [CNN], "steps ahead").axes, (-1, 0)):
        (zero,) = [line for line in axes.lines if set(line.get_ydata()) == {0}]
        assert zero.get_color() == "black" and axes.get_ylim() == (bottom, 1)
        assert axes.get_xlabel() == "steps ahead"
    axes = plot_curves(panels, [CNN], "steps ahead").axes
    assert [a.get_ylabel() for a in axes] == ["test/skill", "a/skill"]
    assert [a.get_title() for a in axes] == ["level=4", ""]
    long = "dynamics/relaxed_weight_error/blocks.0"
    (axes,) = plot_curves({long: [curves([1, 2, 3])]}, [CNN], "epochs trained").axes
    assert axes.get_ylabel() == "dynamics/relaxed_weight_error/\nblocks.0"


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
    for x, swept, x_scale in (
        ((0, 1e-4, 1e-2), True, "symlog"),
        ((0, 15, 180), True, "linear"),
        ((15, 30, 180), True, "log"),
        ((0, 1, 2), False, "linear"),
    ):
        panels = {"t": [curves(values, x=x)]}
        [axes] = plot_curves(panels, [CNN], "alpha", swept=swept).axes
        assert (axes.get_xscale(), axes.get_yscale()) == (x_scale, scale)
