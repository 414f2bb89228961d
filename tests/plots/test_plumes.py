import numpy as np
import pytest
from PIL import Image

from src.plots import plumes
from src.plots.plumes import plot_set


class Stored:
    """A set that is read piece by piece, as from a file."""

    def __init__(self, array):
        self.array = array
        self.shape = array.shape
        self.read = []

    def __getitem__(self, simulation):
        self.read.append(simulation)
        return self.array[simulation]


def make_set(simulations, times):
    return np.random.default_rng(0).normal(size=(simulations, times, 2, 8, 8)).astype(np.float32)


def num_pictures(path):
    with Image.open(path) as animation:
        return animation.n_frames


@pytest.mark.parametrize(("simulations", "times"), [(1, 1), (4, 3), (3, 50)])
def test_a_picture_and_an_animation(tmp_path, simulations, times):
    titles = [f"plume {s}" for s in range(simulations)]
    png, gif = plot_set(make_set(simulations, times), titles, tmp_path / "images" / "level_0.4")
    assert (png.name, gif.name) == ("level_0.4.png", "level_0.4.gif")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert num_pictures(gif) == min(times, plumes.PICTURES)
    assert all(path.stat().st_size < 2e6 for path in (png, gif))


def test_a_few_simulations_are_read_and_labelled(tmp_path, monkeypatch):
    drawn = {}

    def plot_fields(fields, rows, columns, title):
        drawn.update(fields=fields, rows=rows, columns=columns)
        return smoke_pictures_plot(fields, rows, columns, title)

    smoke_pictures_plot = plumes.plot_fields
    monkeypatch.setattr(plumes, "plot_fields", plot_fields)
    stored = Stored(make_set(10, 11))
    plot_set(stored, [f"plume {s}" for s in range(10)], tmp_path / "set")
    assert stored.read == [0, 3, 6, 9]
    assert drawn["rows"] == ["plume 0", "plume 3", "plume 6", "plume 9"]
    assert drawn["columns"] == [f"frame {t}" for t in (0, 2, 4, 6, 8, 10)]
    np.testing.assert_array_equal(drawn["fields"], stored.array[::3, ::2])


@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (3, 4, 3, 8, 8), (0, 4, 2, 8, 8)])
def test_the_shape_of_a_set_is_checked(tmp_path, shape):
    message = r"must be velocities \[simulations, times, 2, rows, columns\]; got the shape \["
    with pytest.raises(ValueError, match=message):
        plot_set(np.zeros(shape), ["a"] * 3, tmp_path / "a")


def test_every_simulation_has_a_title(tmp_path):
    with pytest.raises(ValueError, match=r"got 2 titles for 3 simulations. Give one per plume"):
        plot_set(make_set(3, 2), ["a", "b"], tmp_path / "a")
