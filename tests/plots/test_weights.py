import numpy as np
import pytest
import torch
from torch import nn

from src.models.components.gcnn import GroupConv, LiftingConv, RelaxedLiftingConv, make_group
from src.models.components.translation import RelaxedTranslationConv
from src.plots.weights import draw_kernels, draw_relaxed_weights, element_labels, plot_maps


def texts(labels):
    return [label.get_text() for label in labels]


def test_element_labels():
    labels = {"c1": ["0°"], "c3": ["0°", "120°", "240°"], "d2": ["0°", "180°", "m 0°", "m 180°"]}
    labels["c16"] = [f"{22.5 * g:g}°" for g in range(16)]
    assert {group: element_labels(make_group(group)) for group in labels} == labels


@pytest.mark.parametrize(("height", "width"), [(3, 3), (20, 18)])
def test_maps_lie_where_their_labels_are(height, width):
    maps = torch.arange(2.0 * 4 * height * width).view(2, 4, height, width).requires_grad_()
    labels = ["a", "b"], ["0", "1", "2", "3"]
    figure = plot_maps(maps, *labels, "A title", "group element", "weight")
    axes, bar = figure.axes
    picture = axes.images[0].get_array()
    assert picture.shape == (2 * height + 1, 4 * width + 3)
    for row, y in enumerate(axes.get_yticks()):
        for column, x in enumerate(axes.get_xticks()):
            top, left = int(y - (height - 1) / 2), int(x - (width - 1) / 2)
            shown = picture[top : top + height, left : left + width]
            np.testing.assert_array_equal(shown, maps[row, column].detach())
    assert np.ma.getmaskarray(np.ma.masked_invalid(picture))[height].all()  # gap between rows
    assert (texts(axes.get_yticklabels()), texts(axes.get_xticklabels())) == labels
    assert (axes.get_xlabel(), bar.get_ylabel()) == ("group element", "weight")
    assert figure.get_suptitle() == "A title"


def test_colours_are_centred_at_zero():
    for scale, limit in ((0.0, 1.0), (1e-3, 1e-3), (-5.0, 5.0)):
        figure = plot_maps(scale * torch.ones(1, 2, 3, 3), ["a"], ["0", "1"], "")
        assert figure.axes[0].images[0].get_clim() == pytest.approx((-limit, limit))


def kernel_at(figure, row, column, size):
    picture = figure.axes[0].images[0].get_array()
    top, left = row * (size + 1), column * (size + 1)
    return torch.tensor(picture[top : top + size, left : left + size].filled(float("nan")))


@pytest.mark.parametrize("make", [LiftingConv, RelaxedLiftingConv])
def test_kernels_by_channel_and_element(make):
    network = nn.Sequential(make(1, 5, 3, "c4"), GroupConv(5, 2, 3, "c4"))
    figure = draw_kernels(network, 3, "after training")
    assert texts(figure.axes[0].get_yticklabels()) == ["channel 0", "channel 1", "channel 2"]
    assert figure.get_suptitle() == "Kernels of the first layer over C4, after training"
    for row in range(3):
        for element in range(4):
            upright, turned = kernel_at(figure, row, 0, 3), kernel_at(figure, row, element, 3)
            torch.testing.assert_close(turned, torch.rot90(upright, element))


def test_first_channels_of_an_ordinary_convolution_and_none_without_one():
    layer = nn.Conv2d(2, 12, 5)
    figure = draw_kernels(nn.Sequential(nn.Identity(), layer), 8, "before training")
    torch.testing.assert_close(kernel_at(figure, 0, 7, 5), layer.weight[7, 0].detach())
    assert len(figure.axes[0].get_xticklabels()) == 8
    network = nn.Sequential(nn.Linear(2, 2))
    assert draw_kernels(network, 8, "before training") is None
    assert draw_relaxed_weights(network, "before training") is None


def test_relaxed_weights_by_layer_in_one_scale():
    network = nn.ModuleDict()
    for name, num_filter_banks in (("lift", 3), ("large", 9)):
        network[name] = RelaxedLiftingConv(1, 2, 3, "d4", num_filter_banks=num_filter_banks)
    with torch.no_grad():
        network["lift"].relaxed_weights[0, 0] = -3.0
    figure = draw_relaxed_weights(network, "after training")
    assert figure.get_suptitle() == "Relaxed weights over D4, after training"
    lift, large = (axes for axes in figure.axes if axes.get_title(loc="left"))
    # 14 of 3 * 64 pairs differ by 4; the mean |weight| is 26 / 24
    assert lift.get_title(loc="left") == f"lift   error {56 / 192 / (26 / 24):.3g}"
    for axes, layer in ((lift, network["lift"]), (large, network["large"])):
        assert axes.images[0].get_clim() == (-3, 3)
        np.testing.assert_array_equal(axes.images[0].get_array(), layer.relaxed_weights.detach())
    assert texts(lift.texts)[:2] == ["-3.00", "1.00"] and not large.texts
    assert texts(large.get_yticklabels())[:2] == ["bank 0", "bank 1"]
    assert texts(large.get_xticklabels())[4] == "m 0°"
    assert "mirrored" in large.get_xlabel()


def test_weights_of_positions_are_maps_less_their_mean():
    layers = {f"layer{i}": RelaxedTranslationConv(1, 1, 3, (4, 5)) for i in range(2)}
    with torch.no_grad():
        layers["layer1"].relaxed_weights[1, 0, 2] += 20.0  # bank 1, lowest row
    figure = draw_relaxed_weights(nn.ModuleDict(layers), "after training")
    axes = figure.axes[0]
    assert figure.get_suptitle() == "Relaxed weights over the picture, after training"
    assert texts(axes.get_yticklabels()) == ["layer0", "layer1"]
    assert texts(axes.get_xticklabels()) == ["bank 0", "bank 1"]
    picture = axes.images[0].get_array()
    assert picture[-2:, 6 + 2].tolist() == pytest.approx([-1.0, 19.0])
    assert abs(picture[:4]).max() == 0
