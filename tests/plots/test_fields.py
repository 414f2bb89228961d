from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from src.plots import fields as module
from src.plots.fields import ARROWS, PICTURES, animate_fields, plot_fields, plot_set


def make_fields(*shape, height=8, width=12):
    return np.random.default_rng(0).normal(size=(*shape, 2, height, width)).astype(np.float32)


def panels(figure):
    return [axes for axes in figure.axes if axes.images]


def only_panel(field):
    return panels(plot_fields(field, [""], [""], ""))[0]


def test_rows_and_columns_lie_where_their_labels_are_and_share_one_scale():
    fields = make_fields(2, 3)
    largest = np.hypot(fields[:, :, 0], fields[:, :, 1]).max()
    for limit, highest in ((None, largest), (0.5, 0.5)):
        figure = plot_fields(fields, ["truth", "forecast"], "abc", "A title", limit)
        for index, axes in enumerate(panels(figure)):
            row, column = divmod(index, 3)
            speed = np.hypot(*fields[row, column])
            np.testing.assert_allclose(axes.images[0].get_array(), speed)
            assert axes.images[0].get_clim() == pytest.approx((0, highest))
            assert axes.get_title() == ("abc"[column] if row == 0 else "")
            assert axes.get_ylabel() == (["truth", "forecast"][row] if column == 0 else "")
    assert figure.get_suptitle() == "A title"
    assert figure.axes[-1].get_ylabel() == "speed (cells per time unit)"


def test_y_points_up_and_arrows_along_the_flow():
    """Fields at rest, and then a flow along y at the lowest row alone."""
    field = np.zeros((1, 1, 2, 5, 5))
    assert only_panel(field).images[0].get_clim() == (0, 1)
    field[0, 0, 1, 0] = 2.0
    axes = only_panel(field)
    assert axes.images[0].origin == "lower"
    [arrows] = axes.collections
    moving = np.hypot(arrows.U, arrows.V) > 0
    assert np.unique(arrows.Y[moving]).tolist() == [0]
    assert arrows.V[moving].tolist() == [2.0] * 5 and not arrows.U.any()


@pytest.mark.parametrize("size", [8, 200])
def test_arrows_are_few_and_do_not_overlap(size):
    [arrows] = only_panel(make_fields(1, 1, height=size, width=size)).collections
    assert len(arrows.U) <= (ARROWS + 2) ** 2
    longest = np.hypot(arrows.U, arrows.V).max() / arrows.scale
    assert longest <= np.diff(np.unique(arrows.X))[0] + 1e-6


def test_forecasts_that_have_blown_up_are_drawn(tmp_path):
    fields = make_fields(1, 2, 3)
    fields[0, 1, 1], fields[0, 1, 2] = np.nan, 1e30
    path, columns = tmp_path / "a.gif", ["truth", "forecast"]
    plot_fields(fields[:, :, 2], [""], columns, "", 2.0).savefig(tmp_path / "a.png")
    animate_fields(fields, [""], columns, ["1", "2", "3"], path, 2.0)
    assert path.stat().st_size > 0


def test_animations_have_one_picture_per_time(tmp_path):
    path = tmp_path / "images" / "a.gif"
    animate_fields(make_fields(1, 2, 3), [""], "ab", [f"time {t}" for t in range(3)], path)
    assert list(path.parent.iterdir()) == [path]
    with Image.open(path) as animation:
        assert animation.n_frames == 3
        assert (animation.info["loop"], animation.info["duration"]) == (0, 200)
        pictures = []
        for time in range(3):
            animation.seek(time)
            pictures.append(np.asarray(animation.convert("RGB")))
    assert all((one != other).any() for one, other in pairwise(pictures))


@pytest.mark.parametrize(
    ("simulations", "times"), [(1, 1), pytest.param(3, 50, marks=pytest.mark.slow)]
)
def test_a_figure_and_an_animation_of_a_set(tmp_path, simulations, times):
    titles = [f"plume {s}" for s in range(simulations)]
    png, gif = plot_set(make_fields(simulations, times), titles, tmp_path / "images" / "level_0.4")
    assert (png.name, gif.name) == ("level_0.4.png", "level_0.4.gif")
    assert png.read_bytes().startswith(b"\x89PNG")
    with Image.open(gif) as animation:
        assert animation.n_frames == min(times, PICTURES)
    assert all(path.stat().st_size < 2e6 for path in (png, gif))


def test_a_few_simulations_of_a_set_are_drawn_and_labelled(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(module, "plot_fields", lambda *arguments: drawn.append(arguments))
    for name in ("animate_fields", "save_figure"):
        monkeypatch.setattr(module, name, lambda *_: None)
    stored = make_fields(10, 11)
    frames = np.concatenate([stored, np.ones_like(stored[:, :, :1])], 2)  # with the density
    plot_set(frames, [f"plume {s}" for s in range(10)], tmp_path / "set")
    [(fields, rows, columns, _)] = drawn
    assert rows == ["plume 0", "plume 3", "plume 6", "plume 9"]
    assert columns == [f"frame {t}" for t in (0, 2, 4, 6, 8, 10)]
    np.testing.assert_array_equal(fields, stored[::3, ::2])
