import pytest
import torch

from src.models.components.gcnn import RelaxedVectorReadout, VectorReadout, make_group
from tests.helpers.equivariance import assert_equivariant, equivariance_error
from tests.helpers.layer_cases import (
    assert_compiles,
    assert_equals_twin,
    assert_gradients_check,
    assert_near_in_bfloat16,
    assert_variance_of_conv2d,
    every_group,
    every_kernel_size,
    every_number_of_banks,
    every_stride,
    move_one_weight,
)


def feature_map(group, height=7, width=9, channels=2):
    return torch.randn(2, channels, make_group(group).order, height, width)


@every_group
@every_kernel_size
@every_number_of_banks
@every_stride
def test_equals_slow_twin(double_precision, group, kernel_size, num_filter_banks, stride):
    layer = RelaxedVectorReadout(
        2, 3, kernel_size, group, num_filter_banks=num_filter_banks, stride=stride
    )
    assert_equals_twin(layer, feature_map(group))


@every_group
@every_kernel_size
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_starts_equivariant(group, kernel_size, dtype):
    layer = RelaxedVectorReadout(2, 3, kernel_size, group, num_filter_banks=3).to(dtype)
    assert layer.relaxed_weights.unique().numel() == 1
    assert_equivariant(layer, feature_map(group).to(dtype), group, "regular", "vector")


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic", "harmonic"])
def test_starts_equivariant_whatever_the_interpolation(interpolation):
    layer = RelaxedVectorReadout(
        2, 1, 5, "c8", num_filter_banks=2, interpolation=interpolation
    ).double()
    assert_equivariant(layer, feature_map("c8").double(), "c8", "regular", "vector")


@pytest.mark.parametrize("group", ["c2", "c4", "d1", "d4"])
def test_moving_one_weight_breaks_equivariance(group):
    layer = RelaxedVectorReadout(2, 3, 3, group, num_filter_banks=2)
    move_one_weight(layer)
    assert equivariance_error(layer, feature_map(group), group, "regular", "vector") > 1e-2


@pytest.mark.parametrize("interpolation", ["bilinear", "harmonic"])
def test_one_bank_of_unit_weight_is_the_strict_layer(interpolation):
    relaxed = RelaxedVectorReadout(2, 3, 5, "c8", interpolation=interpolation)
    strict = VectorReadout(2, 3, 5, "c8", interpolation=interpolation)
    strict.load_state_dict({"weight": relaxed.weight.data[0]})
    assert torch.allclose(relaxed.expanded_kernel(), strict.expanded_kernel(), atol=1e-7)


def test_first_and_second_derivatives(double_precision):
    layer = RelaxedVectorReadout(1, 2, 3, "c3", num_filter_banks=2)
    assert_gradients_check(layer, feature_map("c3", 2, 3, channels=1)[:1])


@pytest.mark.parametrize("num_filter_banks", [1, 3, 16])
def test_new_kernel_has_the_variance_of_conv2d_whatever_the_banks(num_filter_banks):
    torch.manual_seed(0)
    layer = RelaxedVectorReadout(32, 16, 5, "c8", num_filter_banks=num_filter_banks)
    assert_variance_of_conv2d(layer)


def test_state():
    layer = RelaxedVectorReadout(2, 1, 3, "c4", num_filter_banks=3)
    shapes = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
    assert shapes == {"weight": (3, 1, 2, 2, 3, 3), "relaxed_weights": (3, 4)}


def test_banks_must_be_a_positive_integer():
    with pytest.raises(ValueError, match="`num_filter_banks` must be an integer of at least 1"):
        RelaxedVectorReadout(1, 2, 3, "c4", num_filter_banks=0)


@pytest.mark.slow
def test_compiles_to_one_graph():
    assert_compiles(RelaxedVectorReadout(2, 1, 3, "c4", num_filter_banks=2), feature_map("c4"))


def test_bfloat16_is_near_float32():
    torch.manual_seed(0)
    assert_near_in_bfloat16(
        RelaxedVectorReadout(2, 1, 3, "c4", num_filter_banks=2), feature_map("c4")
    )
