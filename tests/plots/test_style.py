import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from src.data.samples import spread
from src.plots.style import hide_frame, rendered, save_figure, save_gif


def make_figure():
    figure = Figure(figsize=(2, 1))
    axes = figure.add_subplot()
    axes.imshow(np.eye(3))
    hide_frame(axes)
    return figure


def test_figures_are_saved_whole(tmp_path):
    path = tmp_path / "images" / "eye.png"
    for _ in range(2):
        save_figure(make_figure(), path)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert list(path.parent.iterdir()) == [path]


def test_a_failed_save_leaves_what_was_there(tmp_path):
    class Broken:
        def savefig(self, file, **_):
            file.write(b"half")
            raise OSError("disk full")

    path = tmp_path / "a.png"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        save_figure(Broken(), path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_a_rendered_figure_is_a_picture_of_its_size():
    picture = rendered(make_figure(), 50)
    assert picture.shape == (50, 100, 3)
    assert picture.dtype == np.uint8
    assert picture[0, 0].tolist() == [255, 255, 255]


def test_animations_hold_every_picture(tmp_path):
    shades = (0, 90, 250)
    path = tmp_path / "images" / "a.gif"
    save_gif([np.full((4, 6, 3), shade, np.uint8) for shade in shades], path, seconds=0.25)
    with Image.open(path) as animation:
        assert (animation.size, animation.n_frames) == ((6, 4), 3)
        assert animation.info["loop"] == 0
        for time, shade in enumerate(shades):
            animation.seek(time)
            assert animation.info["duration"] == 250
            assert np.abs(np.asarray(animation.convert("L")).astype(int) - shade).max() < 4


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [
        (20, 5, [0, 5, 10, 14, 19]),
        (3, 5, [0, 1, 2]),
        (1, 5, [0]),
        (9, 1, [0]),
        (0, 3, []),
    ],
)
def test_some_of_many_at_equal_distances(size, most, expected):
    assert spread(size, most) == expected
