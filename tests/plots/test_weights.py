import numpy as np
import pytest
import torch

from src.models.components.gcnn import make_group
from src.plots.style import save_figure
from src.plots.weights import (
    element_axis,
    element_labels,
    plot_kernels,
    plot_relaxed_weights,
)


@pytest.mark.parametrize(
    ("group", "labels"),
    [
        ("c1", ["0°"]),
        ("c4", ["0°", "90°", "180°", "270°"]),
        ("c3", ["0°", "120°", "240°"]),
        ("d2", ["0°", "180°", "m 0°", "m 180°"]),
    ],
)
def test_element_labels(group, labels):
    assert element_labels(make_group(group)) == labels
    assert ("mirrored" in element_axis(make_group(group))) == group.startswith("d")


def test_element_labels_in_between():
    assert element_labels(make_group("c16"))[3] == "67.5°"
    assert element_labels(make_group("c7"))[1] == "51.43°"


def draw_kernels(kernels):
    rows = [f"channel {i}" for i in range(kernels.shape[0])]
    columns = [f"element {i}" for i in range(kernels.shape[1])]
    return plot_kernels(kernels, rows, columns, "group element", "A title")


def test_kernels_lie_where_their_labels_are():
    kernels = torch.arange(2 * 4 * 9, dtype=torch.float32).view(2, 4, 3, 3)
    figure = draw_kernels(kernels.requires_grad_())
    axes = figure.axes[0]
    picture = axes.images[0].get_array()
    assert picture.shape == (7, 15)
    for row, y in enumerate(axes.get_yticks()):
        for column, x in enumerate(axes.get_xticks()):
            centre = kernels[row, column, 1, 1].item()
            assert picture[int(y), int(x)] == centre
            corner = kernels[row, column, 0, 2].item()
            assert picture[int(y) - 1, int(x) + 1] == corner
    assert np.ma.getmaskarray(np.ma.masked_invalid(picture))[3].all()  # the gap between rows
    assert [label.get_text() for label in axes.get_yticklabels()] == ["channel 0", "channel 1"]
    assert axes.get_xticklabels()[3].get_text() == "element 3"
    assert axes.get_title() == "A title"


def test_maps_need_not_be_square():
    maps = torch.arange(2 * 3 * 20 * 18, dtype=torch.float32).view(2, 3, 20, 18)
    labels = ["a", "b"], ["0", "1", "2"]
    axes, bar = plot_kernels(maps, *labels, "", "A title", "weight").axes
    picture = axes.images[0].get_array()
    assert picture.shape == (41, 56)
    assert picture[-1, -1] == maps[1, 2, -1, -1]
    assert list(axes.get_yticks()) == [9.5, 30.5]
    assert list(axes.get_xticks()) == [8.5, 27.5, 46.5]
    assert bar.get_ylabel() == "weight"


@pytest.mark.parametrize("scale", [0.0, 1e-3, -5.0])
def test_colours_are_centred_at_zero(scale):
    image = draw_kernels(scale * torch.ones(1, 2, 3, 3)).axes[0].images[0]
    low, high = image.get_clim()
    assert high == -low == pytest.approx(abs(scale) or 1.0)


def draw_weights(weights):
    errors = dict.fromkeys(weights, 0.25)
    return plot_relaxed_weights(weights, errors, ["0°", "180°"], "group element", "A title")


def test_relaxed_weights_share_one_scale():
    weights = {"first": torch.tensor([[1.0, -3.0]]), "second": torch.tensor([[0.5, 2.0]] * 2)}
    figure = draw_weights(weights)
    maps = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in maps] == [
        "first   error 0.25",
        "second   error 0.25",
    ]
    for axes, array in zip(maps, weights.values()):
        assert axes.images[0].get_clim() == (-3, 3)
        np.testing.assert_array_equal(axes.images[0].get_array(), array.numpy())
    assert [text.get_text() for text in maps[0].texts] == ["1.00", "-3.00"]
    assert [label.get_text() for label in maps[1].get_yticklabels()] == ["bank 0", "bank 1"]
    assert [label.get_text() for label in maps[1].get_xticklabels()] == ["0°", "180°"]


def test_large_maps_have_no_numbers():
    figure = draw_weights({"layer": torch.ones(33, 2)})
    assert not figure.axes[0].texts


def test_pyplot_knows_nothing_of_the_figures(tmp_path):
    import matplotlib.pyplot

    save_figure(draw_kernels(torch.randn(1, 1, 3, 3)), tmp_path / "a.png")
    assert matplotlib.pyplot.get_fignums() == []
