import pytest
import torch

from src.models.components.e2cnn import E2Conv
from src.models.components.e2cnn_bases import FIELD_TYPES, _gspace
from src.models.components.gcnn import make_group
from tests.helpers.equivariance import assert_equivariant
from tests.helpers.layer_cases import (
    assert_compiles,
    assert_gradients_check,
    assert_near_in_bfloat16,
    double_precision,
)
from tests.helpers.library_layers import library_layer
from tests.helpers.slow_layers import elements

__all__ = ["double_precision"]

GROUPS = ["c1", "c2", "c3", "c4", "c8", "d1", "d2", "d4", "d8"]
every_group = pytest.mark.parametrize("group", GROUPS)
every_in_type = pytest.mark.parametrize("in_type", FIELD_TYPES)
every_out_type = pytest.mark.parametrize("out_type", FIELD_TYPES)


def fields(in_type, group, height=6, width=7, channels=2):
    shapes = {
        "scalar": (channels,),
        "vector": (2 * channels,),
        "regular": (channels, len(elements(group))),
    }
    return torch.randn(2, *shapes[in_type], height, width)


@every_group
@every_in_type
@every_out_type
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_axes_agree_with_this_project(group, in_type, out_type, dtype):
    bias = out_type != "vector"
    layer = E2Conv(2, 3, 5, group, in_type, out_type, bias).to(dtype)
    torch.nn.init.normal_(layer.bias if bias else layer.weight)
    assert_equivariant(layer, fields(in_type, group).to(dtype), group, in_type, out_type)


@every_group
@pytest.mark.parametrize(
    ("in_type", "out_type"),
    [("scalar", "regular"), ("regular", "regular"), ("regular", "scalar"), ("scalar", "scalar")],
)
def test_a_new_layer_is_that_of_the_library(group, in_type, out_type):
    """The same seed draws the same coefficients, and these give the same kernel."""
    space = _gspace(make_group(group))
    kinds = {"scalar": space.trivial_repr, "regular": space.regular_repr}
    torch.manual_seed(0)
    library = library_layer(space, kinds[in_type], kinds[out_type], (2, 3), 5)
    torch.manual_seed(0)
    layer = E2Conv(2, 3, 5, group, in_type, out_type)
    assert torch.allclose(layer.weight.flatten(), library.weights, atol=1e-6)
    expected = library.basisexpansion(library.weights).view(layer.expanded_kernel().shape)
    assert torch.allclose(layer.expanded_kernel(), expected, atol=1e-6)


def test_output_is_the_convolution_with_the_expanded_kernel():
    layer = E2Conv(2, 3, 3, "c4", "vector", "regular", bias=True)
    torch.nn.init.normal_(layer.bias)
    x = fields("vector", "c4")
    y = torch.nn.functional.conv2d(x, layer.expanded_kernel(), padding=1)
    expected = y.unflatten(1, (3, 4)) + layer.bias[:, None, None, None]
    assert torch.allclose(layer(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("out_type", "shape"),
    [("scalar", (2, 3, 6, 7)), ("vector", (2, 6, 6, 7)), ("regular", (2, 3, 4, 6, 7))],
)
@every_in_type
def test_shapes(in_type, out_type, shape):
    assert E2Conv(2, 3, 3, "c4", in_type, out_type)(fields(in_type, "c4")).shape == shape


def test_first_and_second_derivatives(double_precision):
    layer = E2Conv(1, 1, 3, "c4", "vector", "regular", bias=True)
    assert_gradients_check(layer, fields("vector", "c4", 3, 4, channels=1)[:1])


def test_one_bias_per_field_starts_at_zero_and_there_is_none_by_default():
    bias = E2Conv(1, 3, 3, "c4", bias=True).bias
    assert bias.shape == (3,)
    assert not bias.any()
    assert E2Conv(1, 3, 3, "c4").bias is None


def test_the_basis_is_not_saved_and_survives_a_change_of_dtype():
    layer = E2Conv(1, 2, 3, "c8", "vector", "vector")
    assert set(layer.state_dict()) == {"weight"}
    assert torch.equal(layer.half().double().basis, layer._exact_basis())


def test_a_parameter_changed_in_evaluation_mode_counts():
    layer, x = E2Conv(1, 2, 3, "c4").eval(), torch.randn(1, 1, 4, 6, 6)
    with torch.no_grad():
        before = layer(x)
        layer.weight.mul_(2)
        assert torch.allclose(layer(x), 2 * before, rtol=1e-5, atol=1e-6)


def test_state_has_the_same_keys_in_training_and_evaluation():
    layer = E2Conv(1, 2, 3, "c4")
    assert layer.train().state_dict().keys() == layer.eval().state_dict().keys()


def test_layers_share_nothing():
    first, second = E2Conv(1, 2, 3, "c4"), E2Conv(1, 2, 3, "c4")
    first.double().eval()
    assert all(module.training for module in second.modules())
    assert {buffer.dtype for buffer in second.buffers() if buffer.is_floating_point()} == {
        torch.float32
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "`in_channels` must be an integer of at least 1; got 0"),
        ({"out_channels": 0}, "`out_channels` must be an integer of at least 1; got 0"),
        ({"kernel_size": 4}, "`kernel_size` must be odd.*got 4. Use 3 or 5"),
        ({"group": "so2"}, "`group` must be 'cN'"),
        ({"in_type": "tensor"}, "`in_type` must be one of scalar, vector, regular; got 'tensor'"),
        ({"out_type": "irrep"}, "`out_type` must be one of scalar, vector, regular; got 'irrep'"),
        (
            {"out_type": "vector", "bias": True},
            "`bias` must be False for vector outputs.*got True. Use bias=False",
        ),
        (
            {"kernel_size": 1, "in_type": "scalar", "out_type": "vector"},
            "an equivariant kernel from scalar to vector.*`kernel_size` 1. Use 3",
        ),
    ],
)
def test_bad_arguments(options, message):
    arguments = {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "group": "c4", **options}
    with pytest.raises(ValueError, match=message):
        E2Conv(**arguments)


@pytest.mark.parametrize(
    ("in_type", "shape", "expected"),
    [
        ("scalar", (2, 3, 8, 8), r"\[B, 2, H, W\] \(2 scalar fields"),
        ("scalar", (2, 2, 4, 8, 8), r"\[B, 2, H, W\] \(2 scalar fields"),
        ("vector", (2, 2, 8, 8), r"\[B, 4, H, W\] \(2 vector fields"),
        ("regular", (2, 8, 8, 8), r"\[B, 2, 4, H, W\] \(2 regular fields"),
        ("regular", (2, 2, 8, 8, 8), r"\[B, 2, 4, H, W\] \(2 regular fields"),
    ],
)
def test_wrong_input(in_type, shape, expected):
    with pytest.raises(ValueError, match=rf"E2Conv must have the shape {expected}.*got .*Change"):
        E2Conv(2, 3, 3, "c4", in_type)(torch.randn(shape))


@pytest.mark.slow
def test_compiles_to_one_graph():
    assert_compiles(E2Conv(2, 3, 3, "c4", "vector", bias=True), fields("vector", "c4"))


def test_bfloat16_is_near_float32():
    torch.manual_seed(0)
    assert_near_in_bfloat16(E2Conv(2, 3, 3, "c4", "vector", bias=True), fields("vector", "c4"))
