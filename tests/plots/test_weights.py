from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.quiver import Quiver
from torch import nn

from src.models.components.e2cnn import E2Conv, RelaxedSteerableConv
from src.models.components.gcnn import GroupConv, LiftingConv, RelaxedLiftingConv, make_group
from src.models.components.gcnn.actions import transform_image, transform_vector_field
from src.models.components.gcnn.relaxation import Relaxable
from src.models.components.translation import RelaxedTranslationConv
from src.plots.weights import (
    draw_kernels,
    draw_relaxed_weights,
    element_labels,
    plot_maps,
    turned_back,
)


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


def kernel_at(axes, row, column, size):
    picture = axes.images[0].get_array()
    top, left = row * (size + 1), column * (size + 1)
    return torch.tensor(picture[top : top + size, left : left + size].filled(float("nan")))


LAYERS = {
    "strict": LiftingConv(1, 5, 3, "c4"),
    "mirrors": LiftingConv(2, 2, 5, "d2", in_type="vector"),
    "harmonic": LiftingConv(2, 2, 5, "c4", interpolation="harmonic"),
    "relaxed": RelaxedLiftingConv(3, 2, 3, "c4", num_filter_banks=2),
    "vectors": RelaxedLiftingConv(1, 2, 3, "d4", num_filter_banks=2, in_type="vector"),
    "free": RelaxedLiftingConv(2, 2, 3, "c4", num_filter_banks=None, free_kernel=1.0),
    "steerable": E2Conv(2, 2, 5, "c4", in_type="vector"),
    "both": E2Conv(1, 2, 5, "c4", in_type="vector+scalar"),
    "relaxed steerable": RelaxedSteerableConv(1, 2, 5, "c4", in_type="scalar"),
}


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_kernels_turned_back_are_those_of_the_convolution_and_equal_when_strict(name):
    layer = LAYERS[name]
    if "strict" not in name and isinstance(layer, Relaxable):
        weights = getattr(layer, "relaxed_weights", layer.weight)
        weights = layer.free_kernel if weights is None else weights
        weights.add_(torch.randn_like(weights) * weights.abs().mean())
    kernels, elements = turned_back(layer)
    assert elements == list(range(layer.group.order))
    turn = transform_image
    if layer.in_type != "scalar":
        turn = partial(transform_vector_field, field_type=layer.in_type)
    expanded = layer.expanded_kernel().unflatten(0, (-1, layer.group.order))
    for g in elements:  # T_g psi_g is the kernel that the convolution uses
        turned = turn(kernels[:, g].flatten(1, 2), layer.group, g)
        torch.testing.assert_close(turned, expanded[:, g])
    spread = (kernels - kernels[:, :1]).abs().max() / kernels.abs().max()
    assert spread > 0.1 if isinstance(layer, Relaxable) else spread < 1e-5


def test_of_inexact_elements_kernels_are_shown_where_the_layer_turns_them():
    for layer, shown in ((LiftingConv(1, 2, 3, "c8"), 8), (E2Conv(1, 2, 5, "c8", "scalar"), 4)):
        kernels, elements = turned_back(layer)
        assert len(elements) == shown
        torch.testing.assert_close(kernels, kernels[:, :1].expand_as(kernels))


def test_departures_stand_beside_the_kernels_of_a_relaxed_layer_alone():
    strict = draw_kernels(nn.Sequential(LiftingConv(1, 5, 3, "c4")), 3, "after training")
    assert strict.get_suptitle() == (
        "Kernels of the first layer over C4, after training\n"
        "first 3 of 5 output, 1 of 1 input channels"
    )
    assert texts(strict.axes[0].get_yticklabels()) == ["channel 0", "channel 1", "channel 2"]
    assert len(strict.axes) == 2  # with the colour bar
    layer = RelaxedLiftingConv(2, 2, 3, "c4")
    with torch.no_grad():
        layer.relaxed_weights[0, 0] = 1.1  # the mean is 1.025: departures +7.5 and -2.5 %
        psi = layer.weight[0]
    figure = draw_kernels(nn.Sequential(layer, GroupConv(2, 2, 3, "c4")), 8, "after training")
    turned, departures = (axes for axes in figure.axes if axes.images)
    rows = [f"channel {o}, input {i}" for o in range(2) for i in range(2)]
    assert texts(turned.get_yticklabels()) == rows and not texts(departures.get_yticklabels())
    assert departures.get_title() == "departures from their mean, at most 6.8 %"
    torch.testing.assert_close(kernel_at(turned, 1, 0, 3), 1.1 * psi[0, 1].detach())
    for element, size in ((0, 0.075), (3, -0.025)):
        shown = kernel_at(departures, 2, element, 3)
        torch.testing.assert_close(shown, size * psi[1, 0].detach(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("in_type", ["vector", "vector+scalar"])
def test_vectors_are_arrows_with_their_lengths(in_type):
    layer = LiftingConv(1, 2, 3, "c4", in_type=in_type)
    axes = draw_kernels(nn.Sequential(layer), 8, "after training").axes[0]
    arrows = next(c for c in axes.collections if isinstance(c, Quiver))
    weight = layer.weight.detach()[:, :2]
    shown = torch.from_numpy(np.stack([arrows.U, arrows.V])).reshape(2, *axes.images[0].get_size())
    for element in range(4):
        torch.testing.assert_close(shown[:, 4:7, 4 * element : 4 * element + 3].float(), weight[1])
        torch.testing.assert_close(kernel_at(axes, 1, element, 3), weight[1].norm(dim=0))


def test_channels_of_an_ordinary_convolution_and_none_without_one():
    layer = nn.Conv2d(2, 12, 5)
    figure = draw_kernels(nn.Sequential(nn.Identity(), layer), 8, "before training")
    for channel in range(2):
        shown = kernel_at(figure.axes[0], channel, 7, 5)
        torch.testing.assert_close(shown, layer.weight[7, channel].detach())
    assert len(figure.axes[0].get_xticklabels()) == 8
    assert figure.get_suptitle().endswith("first 8 of 12 output, 2 of 2 input channels")
    network = nn.Sequential(nn.Linear(2, 2))
    assert draw_kernels(network, 8, "before training") is None
    assert draw_relaxed_weights(network, "before training") is None


def test_relaxed_weights_are_deviations_in_per_cent_in_one_scale():
    network = nn.ModuleDict()
    for name, num_filter_banks in (("lift", 3), ("large", 9)):
        network[name] = RelaxedLiftingConv(1, 2, 3, "d4", num_filter_banks=num_filter_banks)
    strict = draw_relaxed_weights(network, "before training")
    assert not strict.axes[0].images[0].get_array().any()
    assert set(texts(strict.axes[0].texts)) == {"0"}
    with torch.no_grad():
        network["lift"].relaxed_weights[0, 0] = 1.8  # the mean of its bank is 1.1
    figure = draw_relaxed_weights(network, "after training")
    assert figure.get_suptitle().startswith("Relaxed weights over D4, after training\nDeviations")
    lift, large = (axes for axes in figure.axes if axes.get_title(loc="left"))
    # 14 of 3 * 64 pairs differ by 0.8; the mean |weight| is 24.8 / 24
    assert lift.get_title(loc="left") == f"lift   error {14 * 0.8 / 192 / (24.8 / 24):.3g}"
    limit = 100 * 0.7 / 1.1
    for axes in (lift, large):
        assert axes.images[0].get_clim() == pytest.approx((-limit, limit))
    shown = lift.images[0].get_array()
    assert shown[0, :2].tolist() == pytest.approx([limit, -100 * 0.1 / 1.1], rel=1e-5)
    assert not shown[1:].any() and not large.images[0].get_array().any()
    assert texts(lift.texts)[:2] == ["+64", "-9.1"] and not large.texts
    assert texts(large.get_yticklabels())[:2] == ["bank 0", "bank 1"]
    assert texts(large.get_xticklabels())[4] == "m 0°"
    assert "mirrored" in large.get_xlabel()


def test_layers_of_several_groups_and_layers_without_banks():
    layers = {f"{n}": RelaxedLiftingConv(1, 1, 3, g) for n, g in enumerate(("d4", "d4", "c2"))}
    layers["free"] = RelaxedLiftingConv(1, 1, 3, "c4", num_filter_banks=None, free_kernel="zero")
    figure = draw_relaxed_weights(nn.ModuleDict(layers), "after training")
    assert figure.get_suptitle().startswith("Relaxed weights over D4, C2, after training")
    labels = [len(axes.get_xticklabels()) for axes in figure.axes if axes.get_title(loc="left")]
    assert labels == [0, 8, 2]
    assert draw_relaxed_weights(layers["free"], "after training") is None


def test_weights_of_positions_are_maps_less_their_mean():
    layers = {f"layer{i}": RelaxedTranslationConv(1, 1, 3, (4, 5)) for i in range(2)}
    with torch.no_grad():
        layers["layer1"].relaxed_weights[1, 0, 2] += 20.0  # bank 1, lowest row; its mean is 1.5
    figure = draw_relaxed_weights(nn.ModuleDict(layers), "after training")
    axes = figure.axes[0]
    assert figure.get_suptitle() == (
        "Relaxed weights over the picture, after training\n"
        "Deviations from each bank's mean, in % of its mean |weight|"
    )
    assert texts(axes.get_yticklabels()) == ["layer0", "layer1"]
    assert texts(axes.get_xticklabels()) == ["bank 0", "bank 1"]
    picture = axes.images[0].get_array()
    assert picture[-2:, 6 + 2].tolist() == pytest.approx([-100 / 1.5, 1900 / 1.5])
    assert abs(picture[:4]).max() == 0
