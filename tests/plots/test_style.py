import matplotlib.pyplot
import numpy as np

from src.plots import style
from src.plots.style import COLORS, NETWORK_COLORS, network_color, save_figure


def test_a_network_has_one_colour_that_no_other_has():
    assert network_color("RelaxedGCNN") == NETWORK_COLORS["RelaxedGCNN"]
    path = "src.models.components.forecasters.RelaxedGCNNForecaster"
    assert network_color(path, place=5) == NETWORK_COLORS["RelaxedGCNN"]
    assert len(set(NETWORK_COLORS.values())) == len(NETWORK_COLORS)
    assert network_color("another.Network", place=len(COLORS) + 1) == COLORS[1]


def test_figures_are_saved_whole_and_pyplot_knows_nothing_of_them(tmp_path):
    path = tmp_path / "images" / "eye.png"
    figure, [[axes]] = style.new_figure(2, 1)
    axes.imshow(np.eye(3))
    style.hide_frame(axes)
    for _ in range(2):
        save_figure(figure, path)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        assert {file.name for file in path.parent.iterdir()} == {"eye.png", "eye.pdf"}
    assert matplotlib.pyplot.get_fignums() == []
