import pytest
import torch

from src.models.components.gcnn import LiftingConv, VectorReadout, make_group
from tests.helpers.equivariance import assert_equivariant
from tests.helpers.layer_cases import (
    assert_compiles,
    assert_equals_twin,
    assert_gradients_check,
    assert_near_in_bfloat16,
    assert_variance_of_conv2d,
    every_group,
    every_kernel_size,
    every_stride,
)

every_interpolation = pytest.mark.parametrize(
    "interpolation", ["nearest", "bilinear", "bicubic", "harmonic"]
)


def feature_map(group, height=7, width=9, channels=2):
    return torch.randn(2, channels, make_group(group).order, height, width)


@every_group
@every_kernel_size
@every_stride
def test_equals_slow_twin(double_precision, group, kernel_size, stride):
    layer = VectorReadout(2, 3, kernel_size, group, stride=stride)
    assert_equals_twin(layer, feature_map(group))


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
def test_other_interpolations_equal_slow_twin(double_precision, interpolation):
    assert_equals_twin(VectorReadout(2, 3, 5, "c8", interpolation=interpolation), feature_map("c8"))


@every_group
@every_kernel_size
@every_stride
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_equivariant(group, kernel_size, stride, dtype):
    layer = VectorReadout(2, 3, kernel_size, group, stride=stride).to(dtype)
    assert_equivariant(layer, feature_map(group).to(dtype), group, "regular", "vector")


@pytest.mark.parametrize("group", ["c4", "c8", "d4"])
@every_interpolation
def test_is_equivariant_whatever_the_interpolation(group, interpolation):
    layer = VectorReadout(2, 1, 5, group, interpolation=interpolation).double()
    assert_equivariant(layer, feature_map(group).double(), group, "regular", "vector")


@pytest.mark.parametrize("group", ["c3", "c8", "d4"])
@every_interpolation
def test_is_the_transpose_of_the_lifting_layer(double_precision, group, interpolation):
    readout = VectorReadout(2, 1, 5, group, interpolation=interpolation)
    lifting = LiftingConv(1, 2, 5, group, interpolation=interpolation, in_type="vector")
    with torch.no_grad():  # psi[i] of one vector field, seen from either side
        lifting.weight.copy_(readout.weight[0].transpose(0, 1))
    transposed = lifting.expanded_kernel().transpose(0, 1)
    assert torch.allclose(readout.expanded_kernel(), transposed, atol=1e-12)


def test_first_and_second_derivatives(double_precision):
    layer = VectorReadout(2, 1, 3, "c8")
    assert_gradients_check(layer, feature_map("c8", 2, 3)[:1])


@every_interpolation
def test_new_kernel_has_the_variance_of_conv2d(interpolation):
    torch.manual_seed(0)
    assert_variance_of_conv2d(VectorReadout(32, 16, 5, "c8", interpolation=interpolation))


def test_vectors_are_ordered_by_vector_then_component():
    layer = VectorReadout(1, 2, 1, "c4")
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[1, 0] = 1.0  # the second vector points along columns
    y = layer(torch.eye(4).view(4, 1, 4, 1, 1)).squeeze()  # one element at a time
    along = torch.tensor([[1.0, 0.0], [0.0, -1.0], [-1.0, 0.0], [0.0, 1.0]])
    assert torch.equal(y, torch.cat([torch.zeros(4, 2), along], 1))


@pytest.mark.parametrize(("padding", "size"), [("same", 9), ("valid", 5), (0, 5), (1, 7)])
def test_padding(padding, size):
    y = VectorReadout(1, 2, 5, "c4", padding=padding)(feature_map("c4", 9, 9, channels=1))
    assert y.shape == (2, 4, size, size)


def test_constants_are_not_saved_and_survive_a_change_of_dtype():
    layer = VectorReadout(1, 2, 3, "c8")
    assert set(layer.state_dict()) == {"weight"}
    assert torch.equal(layer.double().transform, layer._exact_transform())
    twin = VectorReadout(1, 2, 3, "c8").double()
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin.expanded_kernel(), layer.expanded_kernel())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "`kernel_size` must be odd.*got 4. Use 3 or 5"),
        ({"in_channels": 0}, "`in_channels` must be an integer of at least 1; got 0"),
        ({"out_channels": 0}, "`out_channels` must be an integer of at least 1; got 0"),
        ({"group": "so2"}, "`group` must be 'cN'"),
        ({"padding": "full"}, "`padding` must be one of same, valid.*got 'full'"),
        ({"interpolation": "cubic"}, "`interpolation` must be one of"),
    ],
)
def test_bad_arguments(options, message):
    arguments = {"in_channels": 1, "out_channels": 1, "kernel_size": 3, "group": "c4", **options}
    with pytest.raises(ValueError, match=message):
        VectorReadout(**arguments)


@pytest.mark.parametrize("shape", [(2, 2, 8, 8), (1, 3, 4, 8, 8), (1, 2, 8, 8, 8)])
def test_wrong_input(shape):
    message = r"VectorReadout must have the shape \[B, 2, 4, H, W\].*got .*Change"
    with pytest.raises(ValueError, match=message):
        VectorReadout(2, 1, 3, "c4")(torch.randn(shape))


@pytest.mark.slow
def test_compiles_to_one_graph():
    assert_compiles(VectorReadout(2, 1, 3, "c4"), feature_map("c4"))


def test_bfloat16_is_near_float32():
    torch.manual_seed(0)
    assert_near_in_bfloat16(VectorReadout(2, 1, 3, "c4"), feature_map("c4"))
