import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.measures.generators import InfinitesimalAction
from src.measures.lie_derivative import lie_derivatives, terms
from src.measures.substitution import blocks_of, substituted_outputs
from src.models.components.classifiers import RelaxedGCNN
from src.models.components.gcnn import LiftingConv, SpatialPool
from tests.helpers.measured import (
    MAKERS,
    VECTORS,
    Function,
    Network,
    images,
    ordinary_network,
    relaxed_network,
    spoil,
    strict_network,
)
from tests.helpers.objectives import MODELS, configured_module
from tests.helpers.slow_lie import T, mean_rms, slow_derivative

TRANSFORMATIONS = ("rotation", "translation_x", "translation_y")
every_transformation = pytest.mark.parametrize("transformation", TRANSFORMATIONS)


def derivative(function, x, transformation="rotation", **options):
    return lie_derivatives(Function(function), [x], transformation, **options).overall


@every_transformation
@pytest.mark.parametrize(
    ("kind", "input", "size", "group"),
    [
        ("invariant", "scalar", 8, None),
        ("scalar", "vector", (6, 9), None),
        ("vector", "scalar", (6, 9), None),
        ("regular", "scalar", 8, "c4"),
        ("regular", "scalar", 8, "d3"),
    ],
)
def test_equals_a_difference_of_moved_pictures_and_maps(kind, input, size, group, transformation):
    """Of maps with pooling: they have half the pixels of the input."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, 3, padding=1), nn.ELU(), nn.Conv2d(3, 4, 3, padding=1)]
    if kind == "invariant":
        layers.append(Function(lambda x: x.square().mean((2, 3))))
    if group:
        layers = [LiftingConv(2, 3, 3, group), nn.ELU(), SpatialPool()]
    network, x, options = nn.Sequential(*layers).double(), images(size=size), {"output": kind}
    options |= {"input": input}
    turns = {"num_rotations": int(group[1:])} if group else {}
    slow = slow_derivative(network, x, transformation, **options, **turns)
    assert mean_rms(slow) > 1e-3
    got = lie_derivatives(network, [x], transformation, **options).overall
    assert got == pytest.approx(mean_rms(slow), rel=1e-5)


def normalised(network, x):
    """With batch norms that have the statistics of these images, so that outputs vary."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    network(x)
    return network


@pytest.mark.parametrize("model", MODELS)
def test_every_network_and_its_layers_equal_differences(model):
    if model.endswith("_smoke"):
        network = spoil(configured_module(model, "num_parameters=4000", "norm=batch").net)
        x, kinds = images(2, 4, 12 if "unet" in model else 8), VECTORS
    else:
        x, kinds = images(batch=4, channels=1, size=12), {}
        network = normalised(spoil(configured_module(model, "num_parameters=3000").net), x)
    for transformation in TRANSFORMATIONS if model.startswith("rgcnn") else ["rotation"]:
        arguments = {"transformation": transformation, "num_rotations": 4, **kinds}
        with torch.no_grad():
            y = network.eval()(x)
            first = [list(network.blocks)[:number] for number in range(len(network.blocks) + 1)]
            h = [slow_derivative(network, x, **arguments, after=blocks) for blocks in first]
        found = lie_derivatives(network.train(), [x], transformation, offset=T, **kinds)
        assert found.overall == pytest.approx(mean_rms(h[0]), rel=1e-5)
        ratios = [(a.square().mean() / b.square().mean()).sqrt().item() for a, b in zip(h[0], y)]
        assert found.relative == pytest.approx(np.mean(ratios), rel=1e-5)
        expected = [mean_rms(part) for part in (*(a - b for a, b in pairwise(h)), h[-1])]
        names = [*blocks_of(network), "head"]
        assert list(found.per_layer) == names
        layers = pytest.approx(dict(zip(names, expected)), rel=1e-5, abs=1e-6 * max(expected))
        assert found.per_layer == layers


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), SpatialPool()])
def test_equal_values_under_max_pooling(pool):
    """Of a constant background; at x alone the derivative follows one of them, for no reason."""
    x = F.pad(images(channels=1, size=4), (4, 4, 4, 4))
    torch.manual_seed(0)
    network = Network(nn.Conv2d(1, 4, 3, padding=1), nn.SiLU(), pool).double()
    for transformation in TRANSFORMATIONS:
        expected = mean_rms(slow_derivative(network, x, transformation))
        got = {s: lie_derivatives(network, [x], transformation, offset=s).overall for s in (0, T)}
        assert got[T] == pytest.approx(expected, rel=1e-5)
        assert got[0] != pytest.approx(expected, rel=1e-2)


def squared_radius(x):
    rows, columns = (torch.arange(n, dtype=x.dtype) - (n - 1) / 2 for n in x.shape[-2:])
    return rows[:, None] ** 2 + columns**2


@pytest.mark.parametrize("size", [9, (8, 11)])
def test_functions_that_turning_leaves_alone(size):
    x = F.pad(images(size=size), (1, 1, 1, 1))
    for function, input in (
        (lambda x: x.square().sum((2, 3)), "scalar"),
        (lambda x: (squared_radius(x) * x).sum((2, 3)), "scalar"),
        (lambda x: x.square().sum((1, 2, 3)), "vector"),
    ):
        value = function(x).square().mean().sqrt()
        assert derivative(function, x, input=input) < 1e-12 * value
    assert derivative(lambda x: x[:, :1].square().mean((2, 3)), x, input="vector") > 1e-3


def test_known_value_of_a_rotation():
    """f(x) = x at a pixel p: d/dt x(R_t^-1 p) = -p_row dx/dcolumn + p_column dx/drow."""
    x, row, column = images(batch=1, channels=1, size=5), 1, 4
    by_column, by_row = (0 - x[0, 0, 1, 3]) / 2, (x[0, 0, 2, 4] - x[0, 0, 0, 4]) / 2
    expected = abs(-(row - 2) * by_column + (column - 2) * by_row).item()
    assert derivative(lambda x: x[:, :, row, column], x) == pytest.approx(expected, rel=1e-12)
    for options in ({"output": "scalar"}, VECTORS):  # the identity has none
        for transformation in TRANSFORMATIONS:
            found = lie_derivatives(nn.Identity(), [images()], transformation, **options)
            assert found == (0.0, 0.0, {})


@pytest.mark.parametrize("transformation", ["rotation", "translation_x"])
@pytest.mark.parametrize("make", MAKERS)
def test_value_does_not_depend_on_the_batches(make, transformation):
    """Whatever their sizes, with labels or without, and without the layers."""
    network, x = spoil(make()), images(batch=9, channels=1, size=6)
    expected = lie_derivatives(network, [(x, torch.zeros(9))], transformation)
    for size in (1, 4):
        got = lie_derivatives(network, list(x.split(size)), transformation)
        assert got[:2] == pytest.approx(expected[:2], rel=1e-12)
        assert got.per_layer == pytest.approx(expected.per_layer, rel=1e-12)
    alone = lie_derivatives(network, [x], transformation, per_layer=False)
    assert (alone.overall, alone.per_layer) == (pytest.approx(expected.overall, rel=1e-12), {})


def test_samples_count_the_same_also_those_of_zero_outputs():
    """The mean of root mean squares, not the root of a mean; relative to nothing it is infinite."""
    x = torch.zeros(2, 1, 5, 5, dtype=torch.float64)
    x[0, 0, 2, 1], x[1, 0, 2, 1] = 2.0, 20.0
    middle = Function(lambda x: x[:, 0, 2, 2])
    found = lie_derivatives(middle, [x], "translation_x")
    assert found[:2] == (pytest.approx((1 + 10) / 2, rel=1e-12), math.inf)
    assert lie_derivatives(Function(lambda x: 0 * x.mean((2, 3))), [x]).relative == 0.0
    assert math.isnan(derivative(lambda x: x * math.nan, x, output="scalar"))


@every_transformation
def test_contributions_add_up_to_the_derivative(transformation):
    network, x = spoil(relaxed_network()), images(channels=1)
    action = InfinitesimalAction(transformation, (7, 7), "c4")
    with torch.no_grad():
        with substituted_outputs(network, blocks_of(network)) as substitution:
            value, parts = terms(substitution, x, action, "scalar", "invariant")
        with substituted_outputs(network, {}) as substitution:
            _, whole = terms(substitution, x, action, "scalar", "invariant")
        torch.testing.assert_close(value, network(x))
    assert [list(whole), list(parts)] == [["head"], ["blocks.0", "blocks.1", "head"]]
    assert min(part.abs().max() for part in parts.values()) > 1e-3
    torch.testing.assert_close(sum(parts.values()), whole["head"], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("broken", [0, 3])
def test_the_broken_layer_is_found(broken):
    """Sharp functions of every pixel by itself move along; one weighs pixels by where they are."""
    x = F.pad(images(), (2, 2, 2, 2))
    blocks = [Function(lambda x: 2 * x) for _ in range(4)]
    blocks[broken] = Function(lambda x: x * torch.arange(11, dtype=torch.float64))
    for transformation in ("rotation", "translation_x"):
        found = lie_derivatives(Network(*blocks), [x], transformation)
        per_layer = dict(found.per_layer)
        assert per_layer.pop(f"blocks.{broken}") == pytest.approx(found.overall, rel=1e-12)
        assert max(per_layer.values()) < 1e-12 * found.overall


def test_a_broken_relaxed_layer_is_found():
    """The further from strict, the more; weights vary slowly with the angle, as C16 can show."""
    torch.manual_seed(0)
    options = {"hidden_channels": 4, "num_layers": 4, "pool_after": [], "group_pool": "mean"}
    options["activation"] = "elu"  # the least non-linear
    network = RelaxedGCNN(group="c16", interpolation="harmonic", **options)
    x = F.avg_pool2d(images(4, 1, 32, seed=1), 5, stride=1)  # smooth, and zero near the border
    x = (5 * x * (1 - squared_radius(x) / (0.35 * 28) ** 2).clamp(min=0)).float()
    angles, found = 2 * math.pi / 16 * torch.arange(16), []
    for departure in (0.0, 0.5, 3.0):
        network.blocks[1][0].relaxed_weights.data[:] = 1 + departure * torch.cos(2 * angles)
        found.append(lie_derivatives(normalised(network, x), [x]))
    values, parts = [each.relative for each in found], found[-1].per_layer
    assert 0 < values[0] < 0.3 * values[-1]
    assert values == sorted(values)
    assert max(parts, key=parts.get) == "blocks.1"


def test_blocks_are_those_that_run_once_in_the_order_in_which_they_run():
    network, x = ordinary_network(), [images(channels=1)]
    first, pool, last = network.blocks
    network.blocks = nn.ModuleList([last, first, nn.Identity(), pool])
    network.forward = lambda x: pool(pool(last(first(x)))).mean((2, 3))
    found = lie_derivatives(network, x)
    assert list(found.per_layer) == ["blocks.1", "blocks.0", "head"]
    whole = lie_derivatives(network, x, per_layer=False)
    assert found.overall == pytest.approx(whole.overall, rel=1e-12)
    assert lie_derivatives(first, x, output="scalar").per_layer == {}


def test_outputs_overwritten_in_place_do_no_harm():
    conv, x = nn.Conv2d(2, 2, 3, padding=1).double(), images()
    for order in (lambda elu: (conv, elu), lambda elu: (elu, conv)):  # of an output, of the input
        expected = lie_derivatives(Network(*order(nn.ELU())), [x])
        got = lie_derivatives(Network(*order(nn.ELU(inplace=True))), [x])
        assert got[:2] == pytest.approx(expected[:2], rel=1e-12)
        assert got.per_layer == pytest.approx(expected.per_layer, rel=1e-12)
    assert torch.equal(x, images())


def test_kept_kernels_are_plain_tensors_and_built_once(monkeypatch):
    """Those built in forward mode would hold what ends with it."""
    network, x, built = relaxed_network(), images(batch=4, channels=1), []
    layer = network.blocks[1][0]
    build = layer.expanded_fibres
    monkeypatch.setattr(layer, "expanded_fibres", lambda: built.append(1) or build())
    lie_derivatives(network, list(x.split(2)))
    assert len(built) == 1
    kernel = layer.kernel_cache._kernel
    assert kernel is None or not torch._C._functorch.is_functorch_wrapped_tensor(kernel)
    with torch.no_grad():
        layer.weight.mul_(2)
    expected = relaxed_network()
    expected.load_state_dict(network.state_dict())
    expected = lie_derivatives(expected, [x])
    assert lie_derivatives(network, [x]) == expected
    with torch.inference_mode():  # where Lightning runs its callbacks of validation and test
        assert lie_derivatives(network, [x.clone()]) == expected
    network.blocks[0](x).sum().backward()


REGULAR, LIFTED = {"output": "regular"}, nn.Unflatten(1, (2, 1))


@pytest.mark.parametrize(
    ("model", "x", "options", "match"),
    [
        (nn.Flatten(), [images()], {"transformation": "shear"}, "`transformation` must be one of"),
        (nn.Flatten(), [images()], {"output": "logits"}, "`output` must be one of .*got 'logits'"),
        (nn.Flatten(), [images()], {"input": "regular"}, "`input` must be one of scalar, vector, "),
        (nn.Flatten(), [images()], {"output": "scalar"}, r"output of the network .*\[3, 98\]"),
        (LIFTED, [images()], REGULAR, r"layers have none\. Pass `gr"),
        (
            LIFTED,
            [images()],
            REGULAR | {"group": "c4"},
            r"\[B, C, 4, H, W\]; got \[3, 2, 1, 7, 7\]",
        ),
        (Function(lambda x: x.flatten(1).argmax(1)), [images()], {}, r"network .*torch\.int64"),
        (Function(lambda x: x.mean()), [images()], {}, r"\[B, \.\.\.\]; got \[\]"),
        (Function(lambda x: x.mean(0)), [images()], {}, r"\[2, 7, 7\] for 3 samples\. Return one"),
        (strict_network(), [images(2, 1)], {"group": "c8"}, r"blocks\.0 .*\[B, C, 8, H, W\]"),
        (nn.Flatten(), images(), {}, r"the input .* \[B, C, H, W\]; got \[2, 7, 7\]"),
        (nn.Flatten(), [images().byte()], {}, r"the input .*floating-point.* got torch\.uint8"),
        (nn.Flatten(), [images(size=(2, 7))], {}, r"the input must have 3 x 3 pixels or more"),
        (nn.Flatten(), [], {}, "at least one sample; got none"),
        (nn.Flatten(), [images(batch=0)], {}, "at least one sample; got none"),
    ],
)
def test_arguments_inputs_and_outputs_are_checked(model, x, options, match):
    with pytest.raises(ValueError, match=match):
        lie_derivatives(model, x, **options)
