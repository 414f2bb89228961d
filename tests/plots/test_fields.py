from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from src.plots.fields import ARROWS, animate_fields, plot_fields


def make_fields(*shape, height=8, width=12):
    return np.random.default_rng(0).normal(size=(*shape, 2, height, width))


def panels(figure):
    return [axes for axes in figure.axes if axes.images]


def arrows_of(axes):
    (arrows,) = axes.collections
    return arrows


def test_rows_and_columns_lie_where_their_labels_are():
    fields = make_fields(2, 3)
    figure = plot_fields(fields, ["truth", "forecast"], ["a", "b", "c"], "A title")
    for index, axes in enumerate(panels(figure)):
        row, column = divmod(index, 3)
        speed = np.hypot(*fields[row, column])
        np.testing.assert_allclose(axes.images[0].get_array(), speed)
        assert axes.get_title() == ("abc"[column] if row == 0 else "")
        assert axes.get_ylabel() == (["truth", "forecast"][row] if column == 0 else "")
    assert figure.get_suptitle() == "A title"
    assert figure.axes[-1].get_ylabel() == "speed (cells per time unit)"


def test_y_points_up_and_arrows_along_the_flow():
    """A flow along y at the lowest row alone."""
    field = np.zeros((1, 1, 2, 5, 5))
    field[0, 0, 1, 0] = 2.0
    (axes,) = panels(plot_fields(field, [""], [""], ""))
    assert axes.images[0].origin == "lower"
    arrows = arrows_of(axes)
    moving = np.hypot(arrows.U, arrows.V) > 0
    assert np.unique(arrows.Y[moving]).tolist() == [0]
    assert arrows.V[moving].tolist() == [2.0] * 5
    assert not arrows.U.any()


@pytest.mark.parametrize("size", [8, 64, 200])
def test_arrows_are_few_and_do_not_overlap(size):
    fields = make_fields(1, 1, height=size, width=size)
    arrows = arrows_of(panels(plot_fields(fields, [""], [""], ""))[0])
    assert len(arrows.U) <= (ARROWS + 2) ** 2
    longest = np.hypot(arrows.U, arrows.V).max() / arrows.scale
    distance = np.diff(np.unique(arrows.X))[0]
    assert longest <= distance + 1e-9


def test_all_panels_share_one_scale():
    fields = make_fields(2, 2)
    largest = np.hypot(fields[:, :, 0], fields[:, :, 1]).max()
    for limit, expected in ((None, largest), (0.5, 0.5)):
        figure = plot_fields(fields, ["", ""], ["", ""], "", limit)
        assert {axes.images[0].get_clim() for axes in panels(figure)} == {(0, expected)}


def test_fields_at_rest_have_a_scale():
    (axes,) = panels(plot_fields(np.zeros((1, 1, 2, 5, 5)), [""], [""], ""))
    assert axes.images[0].get_clim() == (0, 1)


@pytest.mark.parametrize("value", [1e30, np.inf, np.nan])
def test_forecasts_that_have_blown_up_are_drawn(tmp_path, value):
    fields = make_fields(1, 2, 3)
    fields[0, 1, 1:] = value
    plot_fields(fields[:, :, 2], [""], ["truth", "forecast"], "", 2.0).savefig(tmp_path / "a.png")
    path = tmp_path / "a.gif"
    animate_fields(fields, [""], ["truth", "forecast"], ["1", "2", "3"], path, 2.0)
    assert path.stat().st_size > 0


def test_animations_have_one_picture_per_time(tmp_path):
    fields = make_fields(1, 3, 5, height=32, width=32)
    path = tmp_path / "a.gif"
    animate_fields(fields, [""], ["a", "b", "c"], [f"time {t}" for t in range(5)], path)
    with Image.open(path) as animation:
        assert animation.n_frames == 5
        pictures = []
        for time in range(5):
            animation.seek(time)
            pictures.append(np.asarray(animation.convert("RGB")))
    assert all((one != other).any() for one, other in pairwise(pictures))


def test_pyplot_knows_nothing_of_the_figures():
    import matplotlib.pyplot

    plot_fields(make_fields(1, 1), [""], [""], "")
    assert matplotlib.pyplot.get_fignums() == []
