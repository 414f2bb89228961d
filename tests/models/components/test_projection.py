"""The nearest equivariant kernels: those of the loops, and a network of them is equivariant."""

import pytest
import torch
from torch import Tensor, nn

from src.models.components.classifiers import CNN, RelaxedGCNN
from src.models.components.forecasters import CNNForecaster, RelaxedTranslationForecaster
from src.models.components.gcnn import make_group
from src.models.components.gcnn.relaxation import relaxed_by
from src.models.components.projection import (
    Kernel,
    check_projection,
    kernels_of,
    projected,
    projection_penalty,
)
from src.models.components.unets import UNetForecaster
from tests.helpers.equivariance import act, assert_equivariant, equivariance_error
from tests.helpers.layer_cases import FREE, LAYERS, RELAXED, make_layer, randomize

SIZES = {"scalar": 3, "vector": 4, "regular": 10}  # regular: fields of |G|, and a rest of scalars
LAYERS_ON_GROUPS = [name for name in LAYERS if name != "translation"]


def turned(x: Tensor, group: str, g: int, kind: str) -> Tensor:
    """Channels [B, C, H, W] acted on by the helper's action; a rest of scalars turns alone."""
    order = make_group(group).order
    if kind != "regular":
        return act(x, group, g, kind)
    fields = len(x[0]) - len(x[0]) % order
    own = act(x[:, :fields].unflatten(1, (-1, order)), group, g, kind).flatten(1, 2)
    return torch.cat([own, act(x[:, fields:], group, g, "scalar")], 1)


def slow_projected(kernel: Kernel) -> Tensor:
    """The mean over the group of rho_out(g) W(g^-1 x) rho_in(g)^-1, one after the other."""
    weight, output, input, group, in_parts = kernel
    total = torch.zeros_like(weight)
    for g in range(group.order):
        outputs = turned(weight.transpose(0, 1), group.name, g, output).transpose(0, 1)
        pixels = outputs.permute(0, 2, 3, 1).flatten(0, 2)[..., None, None]
        parts = pixels.split(in_parts or pixels.shape[1], 1)
        inputs = torch.cat([turned(part, group.name, g, input) for part in parts], 1)
        inputs = inputs.view(*outputs.permute(0, 2, 3, 1).shape)
        total = total + inputs.permute(0, 3, 1, 2) / group.order
    return total


@pytest.mark.parametrize("group", ["c2", "c4", "d4"])
@pytest.mark.parametrize("output", SIZES)
@pytest.mark.parametrize("input", SIZES)
def test_the_projection_is_the_loop_and_stays_where_it_is(double_precision, group, output, input):
    weight = torch.randn(SIZES[output], SIZES[input], 3, 3)
    kernel = Kernel(weight, output, input, make_group(group))
    nearest = projected(kernel)
    torch.testing.assert_close(nearest, slow_projected(kernel))
    torch.testing.assert_close(projected(kernel._replace(weight=nearest)), nearest)
    assert ((weight - nearest) * nearest).sum().abs() < 1e-12, "orthogonal: it is the nearest"


@pytest.mark.parametrize("group", ["c4", "d4"])
@pytest.mark.parametrize("name", LAYERS_ON_GROUPS)
def test_layers_on_a_group_are_projected_onto_strict_ones(double_precision, name, group):
    """To theta = 0, where that is the nearest in the kernel, too."""
    layer = make_layer(name, 3, group)
    assert projection_penalty(layer, layer.group, "scalar", "invariant") < 1e-20
    randomize(layer)
    penalty = projection_penalty(layer, layer.group, "scalar", "invariant")
    if name not in RELAXED and name not in FREE:
        assert (penalty > 0.1) == (name == "steerable")
        return
    parts = layer.expanded_kernel(), layer.expanded_bias()
    with relaxed_by(layer, 0.0):
        strict = layer.expanded_kernel(), layer.expanded_bias()
    pairs = [(w, s) for w, s in zip(parts, strict) if w is not None]
    distance = sum((w - s).square().sum() for w, s in pairs)
    if "kernel_biases" in dict(layer.named_parameters()):  # they may hold a strict part themselves
        assert 0 < penalty < distance
    else:
        torch.testing.assert_close(penalty, distance)


PLAIN = {
    "classifier": (CNN, {"num_classes": 3, "norm": "batch"}, ("scalar", "invariant"), 1),
    "of vectors": (CNN, {"num_classes": 3, "in_channels": 4}, ("vector", "invariant"), 4),
    "forecaster": (CNNForecaster, {"num_inputs": 2, "num_layers": 3}, ("vector", "vector"), 4),
    "u-net": (UNetForecaster, {"num_inputs": 2, "num_levels": 2}, ("vector", "vector"), 4),
    "normed": (CNNForecaster, {"num_inputs": 2, "norm": "group"}, ("vector", "vector"), 4),
}


def plain(name):
    """An ordinary network of widths that four does not divide, weights far from their start."""
    make, options, kinds, channels = PLAIN[name]
    torch.manual_seed(0)
    net = make(hidden_channels=6, **options).eval()
    randomize(net)
    return net, kinds, torch.randn(2, channels, 8, 8)


@pytest.mark.parametrize("group", ["c4", "d4"])
@pytest.mark.parametrize("name", PLAIN)
def test_an_ordinary_network_of_projected_weights_is_equivariant(double_precision, name, group):
    net, kinds, x = plain(name)
    input, output = kinds[0], "scalar" if kinds[1] == "invariant" else kinds[1]

    def on_planes(images):  # logits as maps of one pixel, which do not change
        y = net(images)
        return y[..., None, None] if y.dim() == 2 else y

    assert equivariance_error(on_planes, x, group, input, output) > 0.01
    arguments = net, make_group(group), *kinds
    assert projection_penalty(*arguments) > 1
    with torch.no_grad():
        for kernel in kernels_of(*arguments):
            kernel.weight.copy_(projected(kernel))
    assert projection_penalty(*arguments) < 1e-20
    assert_equivariant(on_planes, x, group, input, output)


@pytest.mark.parametrize("name", PLAIN)
def test_the_penalty_and_its_gradient_are_those_of_the_loop(double_precision, name):
    net, kinds, _ = plain(name)
    arguments = net, make_group("c4"), *kinds
    kernels = list(kernels_of(*arguments))
    slow = sum((k.weight - slow_projected(k)).square().sum() for k in kernels)
    ours, weights = projection_penalty(*arguments), list(net.parameters())
    torch.testing.assert_close(ours, slow)
    for mine, other in zip(*(torch.autograd.grad(p, weights) for p in (ours, slow))):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize(
    ("net", "group", "message"),
    [
        (nn.Linear(2, 2), "c4", r"`penalty` must be l1, l2 or output .*got 'projection'. Use mod"),
        (CNN(), "c8", r"do not map the pixel grid to itself; got 'projection, with c8'. Use model"),
        (RelaxedGCNN(group="c8", hidden_channels=2), "c4", "got 'projection, with c8'"),
        (
            RelaxedTranslationForecaster(grid_size=(8, 8), hidden_channels=2),
            "c4",
            "without convolutions",
        ),
    ],
)
def test_networks_and_groups_without_a_projection_are_refused(net, group, message):
    with pytest.raises(ValueError, match=message):
        check_projection(net, make_group(group))
