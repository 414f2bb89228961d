"""Theta: how much of their departures from strict all relaxed layers use, and their penalty."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.models.components.classifiers import RelaxedGCNN
from src.models.components.gcnn import GroupConv, kernels_built_once
from src.models.components.gcnn.relaxation import (
    relaxation_penalty,
    relaxations,
    relaxed_by,
    relaxed_layers,
    restore_relaxations,
    set_relaxation,
)
from src.models.components.translation import RelaxedTranslationConv
from tests.helpers.equivariance import assert_equivariant, equivariance_error
from tests.helpers.layer_cases import RELAXABLE, RELAXED, make_input, make_layer, randomize

every_layer = pytest.mark.parametrize("name", RELAXABLE)


def moved(name, *arguments):
    """A layer whose parameters are all far from their start."""
    layer = make_layer(name, *arguments)
    randomize(layer)
    return layer


def axes_of(name):
    """Axes of the weights over which a strict layer shares them."""
    return (-1,) if name in RELAXED else (-2, -1)


def relaxed_parameters(layer):
    found = [getattr(layer, name, None) for name in ("relaxed_weights", "group_biases")]
    return [p for p in found if p is not None] or [layer.weight]


@every_layer
def test_penalty_and_error_equal_the_loops(double_precision, name):
    """Absolute differences, not squared, of ordered pairs of elements or of neighbouring pixels."""
    layer = moved(name)
    if name in RELAXED:
        pairs = [(g, h) for g in range(4) for h in range(4)]
        each = [
            torch.stack([(w[..., g] - w[..., h]).abs() for g, h in pairs])
            for w in relaxed_parameters(layer)
        ]
        penalty, difference = sum(d.sum() for d in each), sum(d.mean() for d in each)
    else:
        (w,) = relaxed_parameters(layer)
        rows, columns = w.shape[-2:]
        down = [(w[..., y, :] - w[..., y + 1, :]).abs() for y in range(rows - 1)]
        right = [(w[..., x] - w[..., x + 1]).abs() for x in range(columns - 1)]
        penalty = difference = torch.cat([d.flatten() for d in down + right]).mean()
    torch.testing.assert_close(layer.relaxation_penalty(), penalty)
    both = nn.Sequential(layer, copy.deepcopy(layer))
    torch.testing.assert_close(relaxation_penalty(both), 2 * penalty)
    size = relaxed_parameters(layer)[0].abs().mean()
    torch.testing.assert_close(layer.relaxed_weight_error(), difference / size)


def test_a_map_of_one_pixel_has_no_neighbours():
    layer = RelaxedTranslationConv(1, 1, 1, (1, 1))
    nn.init.zeros_(layer.relaxed_weights)
    assert layer.relaxation_penalty() == layer.relaxed_weight_error() == 0


@every_layer
def test_the_gradient_of_the_penalty_does_not_fade(double_precision, name):
    layer, gradients = moved(name), []
    for scale in (1.0, 1e-6):
        with torch.no_grad():
            for p in relaxed_parameters(layer):
                mean = p.mean(axes_of(name), keepdim=True)
                p.copy_(mean + scale * (p - mean))
        loss = layer.relaxation_penalty()
        gradients.append(torch.autograd.grad(loss, relaxed_parameters(layer)))
    for one, other in zip(*gradients):
        assert one.abs().max() > 1e-3
        torch.testing.assert_close(one, other)


@every_layer
def test_effective_weights_and_their_gradient_by_hand(double_precision, name, monkeypatch):
    """Departures from the mean count theta times, and so does their gradient; free at no cost."""
    layer, axes = moved(name), axes_of(name)
    w, x = relaxed_parameters(layer)[0], make_input(layer)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "lerp", None)
        free, error = layer(x), layer.relaxed_weight_error()
    assert layer.relaxation is None
    assert relaxations(layer) == {}
    assert layer.effective_weights() is w
    mean, cotangent = w.mean(axes, keepdim=True), torch.randn_like(w)
    shared = cotangent.mean(axes, keepdim=True)
    for theta in (0.0, 0.25, 0.8, 1.0):
        set_relaxation(layer, theta)
        ours = layer.effective_weights()
        assert torch.allclose(ours, mean + theta * (w - mean), rtol=0, atol=1e-14)
        (gradient,) = torch.autograd.grad((ours * cotangent).sum(), w)
        assert torch.allclose(gradient, shared + theta * (cotangent - shared))
    assert torch.allclose(layer(x), free)
    assert "relaxation" not in layer.state_dict()
    torch.testing.assert_close(layer.relaxed_weight_error(), error)


@every_layer
def test_theta_zero_is_strict_to_the_last_bit(name):
    """And a strict layer is its own projection, whatever its weights."""
    for dtype in (torch.float32, torch.float64):
        layer = moved(name).to(dtype)
        assert layer.relaxed_weight_error() > 0.1
        set_relaxation(layer, 0.0)
        first = layer.effective_weights()[(..., *[slice(1)] * len(axes_of(name)))]
        assert torch.equal(layer.effective_weights(), first.expand_as(layer.effective_weights()))
        assert layer.relaxed_weight_error() == layer.relaxation_penalty() == 0
        for parameter in relaxed_parameters(layer):
            nn.init.constant_(parameter, 0.1)
        for theta in (0.0, 0.3, 1.0):
            set_relaxation(layer, theta)
            assert (layer.effective_weights() == relaxed_parameters(layer)[0]).all()
            assert layer.relaxed_weight_error() == 0


@pytest.mark.parametrize("group", ["c4", "c8", "d4"])
@every_layer
def test_theta_zero_is_equivariant_and_a_strict_layer(double_precision, name, group):
    """The strict layer of the mixed banks, sum over l of w_bar_l psi_l."""
    layer = moved(name, 3, group)
    if name == "translation":
        set_relaxation(layer, 0.0)
        x, w = make_input(layer), layer.relaxed_weights.mean((1, 2))
        kernel = torch.tensordot(w, layer.weight, dims=1)
        torch.testing.assert_close(layer(x), F.conv2d(x, kernel, layer.bias, padding=1))
        return
    arguments = (layer, make_input(layer), group, layer.in_type, layer.out_type)
    assert equivariance_error(*arguments) > 0.05
    set_relaxation(layer, 0.0)
    assert_equivariant(*arguments)
    if name in RELAXED:
        strict = make_layer(name.removeprefix("relaxed "), 3, group)
        with torch.no_grad():
            mixed = torch.tensordot(layer.relaxed_weights.mean(1), layer.weight, dims=1)
            strict.weight.copy_(mixed)
        torch.testing.assert_close(layer.expanded_kernel(), strict.expanded_kernel())
    if getattr(layer, "group_biases", None) is not None:
        shared = layer.bias + layer.group_biases.mean(1)
        expected = shared.repeat_interleave(len(layer.group_biases[0]))
        torch.testing.assert_close(layer.expanded_bias(), expected)


@every_layer
@pytest.mark.parametrize("once", [False, True])
def test_no_kernel_of_another_theta_is_used(name, once):
    layer = moved(name).train(once)
    x = make_input(layer)
    with torch.set_grad_enabled(once), kernels_built_once(layer if once else nn.Identity()):
        seen = {}
        for theta in (None, 0.5, 0.0, 0.5, None):
            set_relaxation(layer, theta)
            y = layer(x).detach()
            assert torch.equal(y, seen.setdefault(theta, y))
            with relaxed_by(layer, 0.2):
                assert torch.equal(layer(x).detach(), seen.setdefault(0.2, layer(x).detach()))
            assert torch.equal(layer(x).detach(), y)
    distinct = list(seen.values())
    for i, first in enumerate(distinct):
        assert not any(torch.allclose(first, other) for other in distinct[i + 1 :])


def network(theta=None):
    torch.manual_seed(0)
    net = RelaxedGCNN(num_classes=3, hidden_channels=2, num_layers=2, pool_after=[])
    for layer in relaxed_layers(net).values():
        randomize(layer)
    set_relaxation(net, theta)
    return net.eval()


def test_layers_of_a_network_are_set_and_restored_by_name():
    net = network(0.25)
    first, second = relaxed_layers(net)
    assert relaxations(net) == {first: 0.25, second: 0.25}
    set_relaxation(net.get_submodule(first), None)
    set_relaxation(net.get_submodule(second), 0.75)
    stored = relaxations(net)
    assert stored == {second: 0.75}
    with relaxed_by(net, 0.0) as same:
        assert same is net
        assert relaxations(net) == {first: 0.0, second: 0.0}
        with relaxed_by(net, None):
            assert relaxations(net) == {}
        assert relaxations(net) == {first: 0.0, second: 0.0}
    with pytest.raises(RuntimeError, match="inside"), relaxed_by(net, 0.5):
        raise RuntimeError("inside")
    assert relaxations(net) == stored == relaxations(copy.deepcopy(net))
    twin = network(0.5).double()
    restore_relaxations(twin, stored)
    assert relaxations(twin) == stored
    set_relaxation(twin, 0.3)
    assert relaxations(twin) == {first: 0.3, second: 0.3}, "in the dtype of the layers"


def test_a_theta_set_without_gradients_serves_training():
    net = network()
    with torch.inference_mode():
        set_relaxation(net, 0.5)
    set_relaxation(net, 0.25)
    loss = net.train()(torch.randn(2, 1, 8, 8)).sum()
    with relaxed_by(net, 0.0):  # the graph outlives a measurement
        pass
    loss.backward()
    assert relaxed_layers(net)["blocks.0.0"].relaxed_weights.grad.abs().sum() > 0


@pytest.mark.slow
def test_a_compiled_network_is_not_compiled_anew_for_another_theta():
    torch.compiler.reset()
    net, x, compiled = network(1.0), torch.randn(2, 1, 8, 8), []

    def backend(graph, _inputs):
        compiled.append(graph)
        return graph.forward

    fast = torch.compile(net, backend=backend)
    for theta in (1.0, 0.7, 0.2, 0.0):
        set_relaxation(net, theta)
        assert torch.allclose(fast(x), net(x), atol=1e-5)
        if theta == 1.0:
            once = len(compiled)
    assert len(compiled) == once > 0


@pytest.mark.parametrize("theta", [-0.1, 1.5, float("nan"), "half", True])
def test_bad_values(theta):
    net = network(0.5)
    message = rf"`relaxation` must be a number from 0 to 1; got {theta!r}. Use model.relaxation="
    with pytest.raises(ValueError, match=message), relaxed_by(net, theta):
        pass
    assert set(relaxations(net).values()) == {0.5}


def test_a_network_without_relaxed_layers_cannot_be_set():
    net = nn.Sequential(GroupConv(1, 1, 3, "c4"))
    with pytest.raises(ValueError, match=r"needs a relaxed layer .*got Sequential without any"):
        set_relaxation(net, 0.5)
    set_relaxation(net, None)
    assert relaxation_penalty(net) == 0
