import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from src.models.components.classifiers import GCNN, RelaxedGCNN
from src.models.components.export import export
from src.models.components.gcnn import (
    GroupConv,
    LiftingConv,
    RelaxedGroupConv,
    RelaxedLiftingConv,
    RelaxedVectorReadout,
    VectorReadout,
    kernels_built_once,
)
from src.models.components.gcnn.relaxation import (
    mean_neighbour_difference,
    pairwise_differences,
    relative_to_mean,
    relaxations,
    relaxed_by,
    relaxed_layers,
    restore_relaxations,
    set_relaxation,
)
from src.models.components.steerable import RelaxedSteerableConv
from src.models.components.translation import RelaxedTranslationConv
from tests.helpers.equivariance import assert_equivariant, equivariance_error
from tests.helpers.layer_cases import assert_gradients_check, double_precision, randomize

__all__ = ["double_precision"]

LAYERS = {
    "lifting": lambda: RelaxedLiftingConv(2, 3, 3, "c4", num_filter_banks=2, group_biases=True),
    "lifting of vectors": lambda: RelaxedLiftingConv(1, 3, 3, "d4", in_type="vector"),
    "group": lambda: RelaxedGroupConv(2, 3, 3, "c4", num_filter_banks=3, group_biases=True),
    "large group": lambda: RelaxedGroupConv(2, 2, 5, "c8", num_filter_banks=2),
    "readout": lambda: RelaxedVectorReadout(2, 1, 3, "c4", num_filter_banks=2),
    "translation": lambda: RelaxedTranslationConv(2, 3, 3, (5, 6), num_filter_banks=2),
    "steerable": lambda: RelaxedSteerableConv(2, 2, 3, "c4"),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
AXES = {"translation": (-2, -1), "steerable": (-2, -1)}


def moved(name):
    """A layer whose parameters are all far from their start."""
    torch.manual_seed(0)
    layer = LAYERS[name]()
    randomize(layer)
    return layer


def inputs(layer):
    regular = getattr(layer, "in_type", "scalar") == "regular"
    return torch.randn(2, 2, *([layer.group.order] if regular else []), 5, 6)


def relaxed_parameters(layer):
    names = ("relaxed_weights", "group_biases")
    found = [getattr(layer, name, None) for name in names]
    return [p for p in found if p is not None] or [layer.weight]


def outputs(layer, x):
    with torch.no_grad():
        return layer(x)


def test_pairwise_differences_equal_the_loops():
    weights = torch.randn(2, 3, 4)
    differences = pairwise_differences(weights)
    for g in range(4):
        for h in range(4):
            expected = (weights[..., g] - weights[..., h]).abs()
            assert torch.equal(differences[..., g, h], expected)


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 2, 1, 4), (1, 2)])
def test_neighbours_equal_the_loops(shape):
    maps = torch.randn(shape, dtype=torch.float64)
    height, width = shape[-2:]
    differences = []
    for y in range(height):
        for x in range(width):
            for v, u in ((y + 1, x), (y, x + 1)):
                if v < height and u < width:
                    differences.append((maps[..., y, x] - maps[..., v, u]).abs())
    expected = torch.stack(differences).mean()
    assert torch.allclose(mean_neighbour_difference(maps), expected)


def test_a_single_pixel_has_no_neighbours():
    assert mean_neighbour_difference(torch.randn(3, 1, 1)) == 0


def test_relative_to_mean():
    assert relative_to_mean(torch.tensor(3.0), torch.tensor([1.0, -2.0])) == 2
    assert relative_to_mean(torch.tensor(0.0), torch.zeros(2)) == 0


@every_layer
def test_a_new_layer_is_free_at_no_cost(name):
    layer = moved(name)
    assert layer.relaxation is None
    assert "relaxation" not in layer.state_dict()
    assert relaxations(layer) == {}
    assert layer.effective_weights() is relaxed_parameters(layer)[0]


@every_layer
def test_theta_one_is_free(name):
    layer = moved(name)
    x = inputs(layer)
    free, error = outputs(layer, x), layer.relaxed_weight_error()
    set_relaxation(layer, 1.0)
    assert torch.allclose(outputs(layer, x), free, rtol=0, atol=1e-5 * free.abs().max().item())
    torch.testing.assert_close(layer.relaxed_weight_error(), error)


@every_layer
def test_effective_weights_by_hand(double_precision, name):
    layer = moved(name)
    w = relaxed_parameters(layer)[0]
    mean = w.mean(AXES.get(name, -1), keepdim=True)
    for theta in (0.0, 0.25, 0.5, 0.8, 1.0):
        set_relaxation(layer, theta)
        expected = mean + theta * (w - mean)
        assert torch.allclose(layer.effective_weights(), expected, rtol=0, atol=1e-14)


@every_layer
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_theta_zero_is_strict_to_the_last_bit(name, dtype):
    layer = moved(name).to(dtype)
    assert layer.relaxed_weight_error() > 0.1
    set_relaxation(layer, 0.0)
    axes = AXES.get(name, (-1,))
    first = layer.effective_weights()[(..., *[slice(1)] * len(axes))]
    assert torch.equal(layer.effective_weights(), first.expand_as(layer.effective_weights()))
    assert layer.relaxed_weight_error() == 0
    assert layer.relaxation_penalty() == 0


@every_layer
@pytest.mark.parametrize("theta", [0.0, 0.3, 1.0])
def test_equal_weights_stay_as_they_are(name, theta):
    """A strict layer is its own projection, whatever its weights."""
    layer = LAYERS[name]()
    with torch.no_grad():
        for parameter in relaxed_parameters(layer):
            parameter.fill_(0.1)
    before = layer.effective_weights().clone()
    set_relaxation(layer, theta)
    assert torch.equal(layer.effective_weights(), before)
    assert layer.relaxed_weight_error() == 0


@pytest.mark.parametrize("name", ["lifting", "lifting of vectors", "group", "readout", "steerable"])
def test_theta_zero_is_equivariant(name):
    layer = moved(name)
    x = inputs(layer)[..., :5]
    out_type = "vector" if name == "readout" else "regular"
    arguments = (layer, x, layer.group.name, layer.in_type, out_type)
    assert equivariance_error(*arguments) > 0.05
    set_relaxation(layer, 0.0)
    assert_equivariant(*arguments)


STRICT = [
    (RelaxedLiftingConv, LiftingConv, {}),
    (RelaxedLiftingConv, LiftingConv, {"in_type": "vector"}),
    (RelaxedGroupConv, GroupConv, {}),
    (RelaxedVectorReadout, VectorReadout, {}),
]


@pytest.mark.parametrize(("relaxed", "strict", "options"), STRICT)
@pytest.mark.parametrize("group", ["c4", "c8", "d4"])
def test_theta_zero_is_the_strict_layer_of_the_mixed_banks(
    double_precision, relaxed, strict, options, group
):
    layer = relaxed(2, 3, 3, group, num_filter_banks=3, **options)
    randomize(layer)
    set_relaxation(layer, 0.0)
    twin = strict(2, 3, 3, group, **options)
    with torch.no_grad():
        twin.weight.copy_(torch.tensordot(layer.relaxed_weights.mean(1), layer.weight, dims=1))
    assert torch.allclose(layer.expanded_kernel(), twin.expanded_kernel(), rtol=0, atol=1e-13)


def test_theta_zero_of_a_translation_layer_is_a_convolution():
    layer = moved("translation")
    set_relaxation(layer, 0.0)
    x = inputs(layer)
    kernel = torch.tensordot(layer.relaxed_weights.mean((1, 2)), layer.weight, dims=1)
    assert torch.allclose(layer(x), F.conv2d(x, kernel, layer.bias, padding=1), atol=1e-5)


def test_group_biases_are_shared_too():
    layer = moved("lifting")
    set_relaxation(layer, 0.0)
    expected = layer.bias[:, None] + layer.group_biases.mean(1, keepdim=True).expand(-1, 4)
    assert torch.allclose(layer.expanded_bias(), expected.flatten(), atol=1e-6)


@pytest.mark.parametrize("name", ["lifting", "group", "translation", "steerable"])
def test_departures_get_the_gradient_times_theta(double_precision, name):
    layer = moved(name)
    x, axes = inputs(layer), AXES.get(name, (-1,))
    set_relaxation(layer, 1.0)
    parameter = relaxed_parameters(layer)[0]

    def split(loss):
        (gradient,) = torch.autograd.grad(loss, parameter)
        mean = gradient.mean(axes, keepdim=True)
        return mean, gradient - mean

    cotangent = torch.randn_like(layer.effective_weights())
    mean, departure = split((layer.effective_weights() * cotangent).sum())
    for theta in (0.0, 0.4):
        set_relaxation(layer, theta)
        ours = split((layer.effective_weights() * cotangent).sum())
        assert torch.allclose(ours[0], mean)
        assert torch.allclose(ours[1], theta * departure)
    assert layer(x).requires_grad


@pytest.mark.slow
@every_layer
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")  # torch's own
def test_derivatives_of_all_kinds(double_precision, name):
    layer = moved(name)
    set_relaxation(layer, 0.6)
    x = inputs(layer)
    parameters = {n: p.detach() for n, p in layer.named_parameters()}
    tangents = {n: torch.randn_like(p) for n, p in parameters.items()}

    def loss(p):
        return functional_call(layer, p, (x,)).square().sum()

    value, slope = torch.func.jvp(loss, (parameters,), (tangents,))
    gradients = torch.func.grad(loss)(parameters)
    expected = sum((gradients[n] * tangents[n]).sum() for n in parameters)
    assert torch.allclose(slope, expected)
    assert torch.allclose(value, layer(x).square().sum())
    _, product = torch.func.jvp(torch.func.grad(loss), (parameters,), (tangents,))
    step = 1e-5
    moves = [{n: p + s * step * tangents[n] for n, p in parameters.items()} for s in (1, -1)]
    ahead, behind = (torch.func.grad(loss)(m) for m in moves)
    for n in parameters:
        numeric = (ahead[n] - behind[n]) / (2 * step)
        assert torch.allclose(product[n], numeric, rtol=1e-5, atol=1e-4)


def test_first_and_second_derivatives(double_precision):
    layer = RelaxedLiftingConv(1, 1, 3, "c4", num_filter_banks=2)
    set_relaxation(layer, 0.3)
    assert_gradients_check(layer, torch.randn(1, 1, 3, 3))


@every_layer
@pytest.mark.parametrize("once", [False, True])
def test_no_kernel_of_another_theta_is_used(name, once):
    layer = moved(name).train(once)
    x = inputs(layer)
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


def network():
    torch.manual_seed(0)
    net = RelaxedGCNN(num_classes=3, hidden_channels=2, num_layers=2, pool_after=[])
    for layer in relaxed_layers(net).values():
        randomize(layer)
    return net.eval()


def test_all_layers_of_a_network_are_set_and_restored():
    net = network()
    names = list(relaxed_layers(net))
    assert len(names) == 2
    set_relaxation(net, 0.25)
    assert relaxations(net) == dict.fromkeys(names, 0.25)
    with relaxed_by(net, 0.0) as same:
        assert same is net
        assert relaxations(net) == dict.fromkeys(names, 0.0)
        with relaxed_by(net, None):
            assert relaxations(net) == {}
        assert relaxations(net) == dict.fromkeys(names, 0.0)
    assert relaxations(net) == dict.fromkeys(names, 0.25)
    set_relaxation(net, None)
    with pytest.raises(RuntimeError, match="inside"), relaxed_by(net, 0.5):
        raise RuntimeError("inside")
    assert relaxations(net) == {}


def test_layers_may_differ_and_are_restored_by_name():
    net = network()
    first, second = relaxed_layers(net)
    set_relaxation(net.get_submodule(second), 0.75)
    stored = relaxations(net)
    assert stored == {second: 0.75}
    with relaxed_by(net, 0.0):
        pass
    assert relaxations(net) == stored
    twin = network()
    set_relaxation(twin, 0.5)
    restore_relaxations(twin, stored)
    assert relaxations(twin) == stored
    assert twin.get_submodule(first).relaxation is None


def test_theta_follows_device_dtype_and_copies():
    net = network().double()
    set_relaxation(net, 0.3)
    layer = next(iter(relaxed_layers(net).values()))
    assert layer.relaxation.dtype is torch.float64
    assert layer.relaxation.item() == 0.3
    assert layer.to(torch.bfloat16).relaxation.dtype is torch.bfloat16
    assert relaxations(copy.deepcopy(network_at(0.5))) == relaxations(network_at(0.5))


def network_at(theta):
    net = network()
    set_relaxation(net, theta)
    return net


def test_a_theta_set_without_gradients_serves_training():
    net = network()
    with torch.inference_mode():
        set_relaxation(net, 0.5)
    set_relaxation(net, 0.25)
    net.train()(torch.randn(2, 1, 8, 8)).sum().backward()
    assert relaxed_layers(net)["blocks.0.0"].relaxed_weights.grad.abs().sum() > 0


def test_a_graph_outlives_a_measurement():
    net = network()
    set_relaxation(net, 0.5)
    loss = net(torch.randn(2, 1, 8, 8)).sum()
    with relaxed_by(net, 0.0):
        pass
    loss.backward()


def test_the_exported_network_is_as_strict():
    net, x = network_at(0.0), torch.randn(2, 1, 9, 9)
    plain = export(net)
    assert torch.allclose(outputs(plain, x), outputs(net, x), atol=1e-5)
    turned = outputs(plain, x.rot90(1, (-2, -1)))
    assert torch.allclose(turned, outputs(net, x), atol=1e-4)
    free = outputs(export(network()), x)
    assert not torch.allclose(free, outputs(net, x), atol=1e-2)


def test_a_strict_network_of_mixed_banks_gives_the_same_outputs():
    net, x = network_at(0.0), torch.randn(3, 1, 9, 9)
    strict = GCNN(num_classes=3, hidden_channels=2, num_layers=2, pool_after=[]).eval()
    state = {n: v for n, v in net.state_dict().items() if not n.endswith("relaxed_weights")}
    for name, layer in relaxed_layers(net).items():
        mixed = torch.tensordot(layer.relaxed_weights.mean(1), layer.weight, dims=1)
        state[f"{name}.weight"] = mixed
    strict.load_state_dict(state)
    expected = outputs(strict, x)
    assert (outputs(net, x) - expected).abs().max() < 1e-6 * max(1, expected.abs().max().item())


@pytest.mark.slow
def test_a_compiled_network_is_not_compiled_anew_for_another_theta():
    torch.compiler.reset()
    net, x, compiled = network_at(1.0), torch.randn(2, 1, 8, 8), []

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


@every_layer
def test_without_a_theta_nothing_is_computed(name, monkeypatch):
    layer = moved(name)
    monkeypatch.setattr(torch, "lerp", None)
    outputs(layer, inputs(layer))


@pytest.mark.parametrize(
    ("theta", "error", "message"),
    [
        (-0.1, ValueError, "`relaxation`.* from 0 .strict. to 1 .free., or null; got -0.1. Use"),
        (1.5, ValueError, "`relaxation`.*got 1.5"),
        (float("nan"), ValueError, "`relaxation`.*got nan"),
        ("half", TypeError, "`relaxation`.*got 'half'"),
        (True, TypeError, "`relaxation`.*got True. Use model.relaxation=null"),
    ],
)
def test_bad_values(theta, error, message):
    net = network_at(0.5)
    with pytest.raises(error, match=message):
        set_relaxation(net, theta)
    with pytest.raises(error, match=message), relaxed_by(net, theta):
        pass
    assert set(relaxations(net).values()) == {0.5}


def test_a_network_without_relaxed_layers_cannot_be_set():
    net = nn.Sequential(GroupConv(1, 1, 3, "c4"))
    with pytest.raises(ValueError, match=r"needs a relaxed layer .*got Sequential without any"):
        set_relaxation(net, 0.5)
    with pytest.raises(ValueError, match="needs a relaxed layer"), relaxed_by(net, 0.0):
        pass
    set_relaxation(net, None)
