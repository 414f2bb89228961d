import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.measures import (
    equivariance_error,
    equivariance_errors,
    equivariance_errors_per_layer,
)
from src.measures.equivariance import EquivarianceErrors, equivariance_error_per_element
from src.measures.interpolation_floor import interpolation_floor
from src.models.components.gcnn import (
    GroupBatchNorm,
    GroupConv,
    GroupPool,
    LiftingConv,
    RelaxedGroupConv,
    RelaxedLiftingConv,
)


class Function(nn.Module):
    """Any function of a batch as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Network(nn.Module):
    """Blocks, then a mean over everything but batch and channels."""

    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x.flatten(2).mean(2) if x.ndim > 2 else x


def images(batch=3, channels=2, size=7, **options):
    generator = torch.Generator().manual_seed(0)
    shape = (batch, channels, *((size, size) if isinstance(size, int) else size))
    return torch.randn(shape, generator=generator, dtype=torch.float64, **options)


def error(function, x, group="c4", **options):
    return equivariance_error(Function(function), [x], group, **options)


def laplacian(x):
    kernel = torch.tensor([[0.5, 1, 0.5], [1, -6, 1], [0.5, 1, 0.5]], dtype=x.dtype)
    return F.conv2d(x, kernel.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


def gradient(x):
    """Central differences of one channel: component 0 along columns, component 1 along rows."""
    padded = F.pad(x, (1, 1, 1, 1))
    along_columns = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    along_rows = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    return torch.cat([along_columns, along_rows], 1)


def lifted(x, sense=1, shift=1):
    """sum over channels of any function phi, lifted to C4: out[:, :, a] = a . phi(a^-1 . x)."""
    weight = images(4, x.shape[1], 3)
    maps = []
    for a in range(4):
        turned = F.conv2d(torch.rot90(x, -a, (-2, -1)), weight, padding=1).relu()
        maps.append(torch.rot90(turned, sense * a, (-2, -1)))
    return torch.stack([maps[shift * a] for a in range(4)], 2)


@pytest.mark.parametrize("group", ["c2", "c4", "d1", "d4"])
@pytest.mark.parametrize("size", [7, 8, (5, 8)])
@pytest.mark.parametrize(
    ("function", "output"),
    [
        (lambda x: laplacian(x).square().mean((2, 3)), "invariant"),
        (lambda x: laplacian(x).relu(), "scalar"),
        (lambda x: gradient(x[:, :1]), "vector"),
    ],
)
def test_equivariant_functions_have_no_error(function, output, group, size):
    assert error(function, images(size=size), group, output=output) < 1e-12


def test_equivariant_lifting_has_no_error():
    assert error(lifted, images(size=8), output="regular") < 1e-12


@pytest.mark.parametrize("wrong", [{"sense": -1}, {"shift": 0}])
def test_wrong_lifting_is_detected(wrong):
    assert error(lambda x: lifted(x, **wrong), images(), output="regular") > 0.5


def test_wrong_representations_are_detected():
    assert error(laplacian, images()) > 0.5  # a field is not invariant
    one = images(channels=1)
    assert error(lambda x: gradient(x).flip(1), one, output="vector") > 0.5
    assert error(gradient, one, output="scalar") > 0.5


def test_vector_inputs_turn_as_vectors():
    """C4's element 1 takes (v0, v1) to (v1, -v0) besides turning the picture."""
    v = images(channels=2)
    seen = []

    def spy(x):
        seen.append(x)
        return x

    assert error(spy, v, output="vector", input="vector") == 0
    for element in (1, 2, 3):
        turned = torch.rot90(v, element, (-2, -1))
        for _ in range(element):
            turned = torch.stack([turned[:, 1], -turned[:, 0]], 1)
        torch.testing.assert_close(seen[1 + element - 1], turned, rtol=0, atol=0)


def test_speed_is_a_scalar_of_a_vector_input():
    def speed(v):
        return v.square().sum(1, keepdim=True)

    assert error(speed, images(), output="scalar", input="vector") < 1e-12
    assert error(lambda v: v[:, :1], images(), output="scalar", input="vector") > 0.5


def test_known_value_of_a_corner():
    """f(x) = x[0, 0] sees the four corners, counter-clockwise turns bring the right one first."""
    x = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    x[0, 0, 0, 0], x[0, 0, 0, 2], x[0, 0, 2, 2], x[0, 0, 2, 0] = 2.0, 3.0, -1.0, 2.0
    corner = [abs(3 - 2) / 2, abs(-1 - 2) / 2, abs(2 - 2) / 2]
    assert error(lambda x: x[:, :, 0, 0], x) == pytest.approx(sum(corner) / 3, rel=1e-12)
    assert error(lambda x: x[:, :, 0, 0], x, "c2") == pytest.approx(1.5, rel=1e-12)


def test_known_value_of_a_constant_vector():
    def constant(x):
        return torch.tensor([1.0, 0.0], dtype=x.dtype).view(1, 2, 1, 1).expand(len(x), 2, 4, 4)

    expected = (math.sqrt(2) + 2 + math.sqrt(2)) / 3
    assert error(constant, images(), output="vector") == pytest.approx(expected, rel=1e-12)


def test_samples_count_the_same():
    """The mean of ratios, not the ratio of means."""
    x = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    x[0, 0] = torch.tensor([[1.0, 2.0], [1.0, 1.0]])
    x[1, 0] = torch.tensor([[1e6, 1e6], [1e6, 1e6]])
    assert error(lambda x: x[:, :, 0, 0], x) == pytest.approx((1 / 3) / 2, rel=1e-12)


def test_zero_outputs():
    x = images(batch=2)
    assert error(lambda x: 0 * x.mean((2, 3)), x) == 0.0
    x[1, :, 0, 0] = 0.0  # f vanishes on the second sample, but not on its turned pictures
    assert error(lambda x: x[:, :, 0, 0], x) == math.inf


def test_nan_is_not_hidden():
    assert math.isnan(error(lambda x: x * math.nan, images(), output="scalar"))


def strict_network(group="c4"):
    torch.manual_seed(0)
    blocks = [
        nn.Sequential(LiftingConv(1, 3, 3, group), GroupBatchNorm(3), nn.ReLU()),
        nn.Sequential(GroupConv(3, 3, 3, group, stride=2), nn.ReLU()),
        GroupPool(),
    ]
    return Network(*blocks).double()


def relaxed_network():
    torch.manual_seed(0)
    options = {"num_filter_banks": 2}
    return Network(
        nn.Sequential(RelaxedLiftingConv(1, 3, 3, "c4", **options), nn.ReLU()),
        nn.Sequential(RelaxedGroupConv(3, 3, 3, "c4", **options), nn.ReLU()),
    ).double()


def cnn():
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()) for _ in range(1)]
    return Network(*blocks, nn.Conv2d(4, 3, 3, padding=1)).double()


@pytest.mark.parametrize("size", [1, 8, 64])
@pytest.mark.parametrize("make", [strict_network, relaxed_network, cnn])
def test_value_does_not_depend_on_the_batch_size(make, size):
    network = make()
    if make is relaxed_network:
        torch.nn.init.uniform_(network.blocks[1][0].relaxed_weights)
    x = images(batch=130, channels=1)
    expected = equivariance_errors(network, [x], "c4")
    got = equivariance_errors(network, list(x.split(size)), "c4")
    assert got.overall == pytest.approx(expected.overall, rel=1e-12, abs=1e-13)
    assert got.per_layer == pytest.approx(expected.per_layer, rel=1e-12, abs=1e-13)


def test_strict_network_has_no_error_in_any_layer():
    x = images(channels=1, size=9)
    overall, per_layer, _ = equivariance_errors(strict_network(), [x], "c4")
    assert overall < 1e-12
    assert list(per_layer) == ["blocks.0", "blocks.1", "blocks.2"]
    assert max(per_layer.values()) < 1e-12


def test_a_broken_layer_is_found():
    network = relaxed_network()
    x = images(channels=1)
    assert equivariance_error(network, [x], "c4") < 1e-12
    with torch.no_grad():
        network.blocks[1][0].relaxed_weights[0, 2] = -4.0
    overall, per_layer, _ = equivariance_errors(network, [x], "c4")
    assert overall > 0.05
    assert per_layer["blocks.0"] < 1e-12
    assert per_layer["blocks.1"] > 0.05


def test_layers_of_an_ordinary_network_are_scalar_fields():
    network = cnn()
    x = images(channels=1)
    per_layer = equivariance_errors_per_layer(network, [x], "c4")
    outputs = {"blocks.0": network.blocks[:1], "blocks.1": network.blocks}
    for name, blocks in outputs.items():
        function = nn.Sequential(*blocks)
        expected = equivariance_error(function, [x], "c4", output="scalar")
        assert expected > 0.1
        assert per_layer[name] == pytest.approx(expected, rel=1e-12)


def test_the_two_measures_agree_with_both_at_once():
    network, x = cnn(), images(channels=1)
    overall, per_layer, _ = equivariance_errors(network, [x], "c8")
    assert equivariance_error(network, [x], "c8") == overall
    assert equivariance_errors_per_layer(network, [x], "c8") == per_layer


def test_layers_can_be_left_out():
    network, x = cnn(), images(channels=1)
    expected = equivariance_errors(network, [x], "c8")._replace(per_layer={})
    assert equivariance_errors(network, [x], "c8", per_layer=False) == expected


def test_the_floor_comes_with_the_errors():
    x = images(channels=2)
    model = Function(lambda x: x.mean((2, 3)))
    options = {"input": "vector", "interpolation": "bicubic"}
    floor = equivariance_errors(model, [x[:1], x[1:]], "c8", **options).floor
    assert floor == pytest.approx(interpolation_floor([x], "c8", **options), rel=1e-14)
    assert floor > 0.1
    assert equivariance_errors(model, [x], "c8", elements="exact").floor == 0.0
    assert equivariance_errors(model, [x], "c4").floor == EquivarianceErrors(0.0, {}).floor == 0.0


def test_a_feature_map_over_the_trivial_group_is_a_scalar_field():
    network = Network(LiftingConv(1, 2, 3, "c1")).double()
    x = images(channels=1)
    per_layer = equivariance_errors_per_layer(network, [x], "c4")
    expected = error(lambda x: network.blocks[0](x)[:, :, 0], x, output="scalar")
    assert per_layer["blocks.0"] == pytest.approx(expected, rel=1e-12)


def test_layers_without_a_picture_are_invariant():
    network = Network(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert equivariance_errors_per_layer(network, [images()], "c4")["blocks.0"] < 1e-12


def test_model_without_blocks_has_no_layers():
    model = Function(lambda x: x.mean((2, 3)))
    assert equivariance_errors_per_layer(model, [images()], "c4") == {}


def test_blocks_that_are_not_run_are_left_out():
    network = cnn()
    network.blocks.append(nn.Identity())
    network.forward = lambda x: network.blocks[0](x).mean((2, 3))
    assert list(equivariance_errors_per_layer(network, [images(channels=1)], "c4")) == ["blocks.0"]


def test_elements_all_and_exact():
    seen = []
    x = images()
    model = Function(lambda x: seen.append(x) or x.mean((2, 3)))
    all_elements = equivariance_error(model, [x], "c8")
    assert len(seen) == 8
    seen.clear()
    exact = equivariance_error(model, [x], "c8", elements="exact")
    assert len(seen) == 4
    assert exact < 1e-12 < all_elements
    for got, quarters in zip(seen[1:], (1, 2, 3)):
        torch.testing.assert_close(got, torch.rot90(x, quarters, (-2, -1)), rtol=0, atol=0)


def test_batches_with_labels():
    x = images()
    with_labels = equivariance_error(cnn(), [(x[:, :1], torch.zeros(3))], "c4")
    assert with_labels == equivariance_error(cnn(), [x[:, :1]], "c4")


@pytest.mark.parametrize(
    "measure",
    [
        equivariance_error,
        equivariance_errors,
        equivariance_errors_per_layer,
        equivariance_error_per_element,
    ],
)
def test_runs_in_eval_mode_without_gradients(measure):
    def check(x):
        assert not model.training
        assert not torch.is_grad_enabled()
        return x.mean((2, 3))

    model = Function(check)
    measure(model, [images().requires_grad_()], "c4")
    assert model.training
    assert torch.is_grad_enabled()


def test_nothing_of_the_model_or_the_random_state_changes():
    network = strict_network()
    network.blocks[0].append(Function(lambda x: x + draw_everything()))
    network.blocks[1].eval()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    rng = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    equivariance_errors(network, [images(channels=1)], "c4")
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.get_rng_state(), rng[0])
    assert random.getstate() == rng[1]
    assert np.array_equal(np.random.get_state()[1], rng[2])  # noqa: NPY002


def draw_everything():
    return 0 * (torch.rand(1).item() + random.random() + np.random.rand())  # noqa: NPY002


def test_hooks_and_modes_are_restored_after_an_error():
    def fail(_):
        raise RuntimeError("inside")

    network = cnn()
    network.blocks.append(Function(fail))
    with pytest.raises(RuntimeError, match="inside"):
        equivariance_errors(network, [images(channels=1)], "c4")
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


def test_hooks_are_removed():
    network = cnn()
    equivariance_errors_per_layer(network, [images(channels=1)], "c4")
    assert not any(module._forward_hooks for module in network.modules())


def test_overwritten_outputs_are_an_error():
    network = Network(nn.Conv2d(2, 2, 3).double(), nn.ReLU(inplace=True))
    with pytest.raises(ValueError, match=r"output of 'blocks\.0' .* overwrote it in place"):
        equivariance_errors_per_layer(network, [images()], "c4")
    assert equivariance_error(network, [images()], "c4") > 0


def test_a_network_compiled_in_place_is_measured_as_written():
    network, x = cnn(), images(channels=1)
    expected = equivariance_errors(network, [x], "c4")
    network.compile(backend="eager")
    with torch.no_grad():
        network(x)
    assert equivariance_errors(network, [x], "c4") == expected


@pytest.mark.parametrize(
    ("group", "options", "match"),
    [
        ("c1", {}, r"other than the identity; group 'c1' has none\. .* for example\.$"),
        ("c1", {"elements": "exact"}, r"maps the pixel grid to itself, other than .* example\.$"),
        ("c3", {"elements": "exact"}, r"group 'c3' has none\. .* with elements=\"all\""),
        ("x4", {}, "got 'x4'"),
        ("c4", {"elements": "some"}, "`elements` must be one of all, exact; got 'some'"),
        ("c4", {"output": "logits"}, "`output` must be one of invariant, scalar.*got 'logits'"),
        ("c4", {"input": "regular"}, "`input` must be one of scalar, vector; got 'regular'"),
        ("c4", {"interpolation": "cubic"}, "`interpolation` must be one of nearest.*got 'cubic'"),
    ],
)
def test_options_are_checked(group, options, match):
    with pytest.raises(ValueError, match=match):
        equivariance_error(Function(lambda x: x), [images()], group, **options)


@pytest.mark.parametrize(
    ("function", "options", "match"),
    [
        (lambda x: x.mean((2, 3)), {"output": "scalar"}, r"network .*'scalar'.*\[3, 2\]"),
        (
            lambda x: x[:, :1],
            {"output": "vector"},
            r"\[B, 2 C, H, W\]; got \[3, 1, 7, 7\]\. Give two channels per vector",
        ),
        (lambda x: x, {"output": "regular"}, r"\[B, C, 4, H, W\]; got \[3, 2, 7, 7\]"),
        (lambda x: x[:, :, :5, :3], {"output": "scalar"}, r"\[3, 2, 5, 3\] and \[3, 2, 3, 5\]"),
    ],
)
def test_outputs_are_checked(function, options, match):
    with pytest.raises(ValueError, match=match):
        equivariance_error(Function(function), [images()], "c4", **options)


def test_inputs_are_checked():
    model = Function(lambda x: x.mean((-2, -1)))
    with pytest.raises(ValueError, match=r"the input .* \[B, C, H, W\]; got \[2, 7, 7\]"):
        equivariance_error(model, images(), "c4")  # a tensor instead of a list of tensors
    with pytest.raises(ValueError, match=r"kind 'vector' .* \[3, 3, 7, 7\]\. Give two channels"):
        equivariance_error(model, [images(channels=3)], "c4", input="vector")


def test_outputs_that_do_not_turn_with_their_picture():
    """Quarter turns swap height and width of pictures, which must then swap those of outputs."""
    resized = nn.AdaptiveAvgPool2d((3, 5))
    with pytest.raises(ValueError, match=r"\[3, 2, 3, 5\] and \[3, 2, 5, 3\]\. Use .* square"):
        equivariance_error(resized, [images(size=(6, 10))], "c4", output="scalar")
    half_turns = equivariance_error(resized, [images(size=(6, 10))], "c2", output="scalar")
    assert half_turns < 1e-12


@pytest.mark.parametrize("measure", [equivariance_error, equivariance_errors_per_layer])
def test_batches_hold_samples(measure):
    model = Function(lambda x: x.mean((-2, -1)))
    for batches in ([], [images(batch=0)], [(images(batch=0), torch.zeros(0))]):
        with pytest.raises(ValueError, match=r"at least one sample; got none\. Pass a list"):
            measure(model, batches, "c4")
    generator = (x for x in [images()])
    measure(model, generator, "c4")
    with pytest.raises(ValueError, match="a generator or an iterator gives its batches only once"):
        measure(model, generator, "c4")


def test_feature_maps_of_another_group_are_an_error():
    network = strict_network("c4")
    with pytest.raises(ValueError, match=r"output of blocks\.0 .*'c8'.*\[B, C, 8, H, W\]"):
        equivariance_errors_per_layer(network, [images(channels=1)], "c8")


def test_layers_of_unknown_kind_are_an_error():
    network = Network(Function(lambda x: x.flatten(2)))
    with pytest.raises(ValueError, match=r"output of blocks\.0 .*got \[3, 2, 49\]"):
        equivariance_errors_per_layer(network, [images()], "c4")
