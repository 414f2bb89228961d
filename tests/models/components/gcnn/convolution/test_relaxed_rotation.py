import pytest
import torch

from scripts.benchmarks import layers
from src.models.components.gcnn import GroupConv, RelaxedGroupConv, make_group
from tests.helpers.equivariance import assert_equivariant, equivariance_error
from tests.helpers.layer_cases import (
    assert_equals_twin,
    assert_gradients_check,
    assert_variance_of_conv2d,
    every_group,
    every_kernel_size,
    every_number_of_banks,
    every_stride,
    move_one_weight,
)


def feature_map(group, height=5, width=7, channels=2):
    return torch.randn(2, channels, make_group(group).order, height, width)


@every_group
@every_kernel_size
@every_number_of_banks
@every_stride
def test_equals_slow_twin(double_precision, group, kernel_size, num_filter_banks, stride):
    layer = RelaxedGroupConv(
        2, 3, kernel_size, group, num_filter_banks=num_filter_banks, stride=stride
    )
    assert_equals_twin(layer, feature_map(group))


@every_group
@every_kernel_size
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_starts_equivariant(group, kernel_size, dtype):
    layer = RelaxedGroupConv(2, 3, kernel_size, group, num_filter_banks=3).to(dtype)
    assert layer.relaxed_weights.unique().numel() == 1
    assert_equivariant(layer, feature_map(group).to(dtype), group, "regular")


@pytest.mark.parametrize("group", ["c2", "c4", "d1", "d4"])
def test_moving_one_weight_breaks_equivariance(group):
    layer = RelaxedGroupConv(2, 3, 3, group, num_filter_banks=2)
    move_one_weight(layer)
    assert equivariance_error(layer, feature_map(group), group, "regular") > 1e-2


@pytest.mark.parametrize("bias", [True, False])
def test_group_biases_equal_slow_twin(double_precision, bias):
    layer = RelaxedGroupConv(2, 3, 3, "d2", num_filter_banks=2, bias=bias, group_biases=True)
    assert_equals_twin(layer, feature_map("d2"))


@pytest.mark.parametrize("bias", [True, False])
def test_group_biases_start_equivariant_and_break_it_when_moved(bias):
    layer = RelaxedGroupConv(2, 3, 3, "c4", bias=bias, group_biases=True)
    x = feature_map("c4")
    assert layer.group_biases.shape == (3, 4)
    assert_equivariant(layer, x, "c4", "regular")
    with torch.no_grad():
        layer.group_biases[0, 1] += 0.5
    assert equivariance_error(layer, x, "c4", "regular") > 1e-2


def test_without_group_biases_there_is_no_parameter():
    layer = RelaxedGroupConv(2, 3, 3, "c4")
    assert layer.group_biases is None
    assert set(layer.state_dict()) == {"weight", "relaxed_weights", "bias"}


def test_one_bank_of_unit_weight_is_the_strict_layer():
    relaxed = RelaxedGroupConv(2, 3, 5, "c8")
    strict = GroupConv(2, 3, 5, "c8")
    strict.load_state_dict({"weight": relaxed.weight.data[0], "bias": relaxed.bias.data})
    assert torch.allclose(relaxed.expanded_kernel(), strict.expanded_kernel(), atol=1e-7)


def test_first_and_second_derivatives(double_precision):
    layer = RelaxedGroupConv(1, 2, 3, "c3", num_filter_banks=2)
    assert_gradients_check(layer, feature_map("c3", 2, 3, channels=1)[:1])


@pytest.mark.parametrize("num_filter_banks", [1, 3, 16])
def test_new_kernel_has_the_variance_of_conv2d_whatever_the_banks(num_filter_banks):
    torch.manual_seed(0)
    layer = RelaxedGroupConv(16, 32, 3, "c8", num_filter_banks=num_filter_banks)
    assert_variance_of_conv2d(layer)


def test_banks_must_be_a_positive_integer():
    with pytest.raises(ValueError, match="`num_filter_banks` must be an integer of at least 1"):
        RelaxedGroupConv(1, 2, 3, "c4", num_filter_banks=0)


@pytest.mark.slow
@pytest.mark.parametrize("size", layers.SIZES["group"], ids=str)
@pytest.mark.parametrize("run", layers.PASSES)
@pytest.mark.parametrize("version", ["bank", "sum", "ours"])
def test_speed_of_building_the_kernel(benchmark, size, run, version):
    """`make bench`; `scripts/benchmark_layers.py` times the versions in turn instead."""
    benchmark.group = f"group {size}, {run}"
    layer = layers.make_layer("group", size)
    build = layers.make_builders(layer)[version]
    kernel = benchmark(layers.PASSES[run](build, list(layer.parameters())))
    assert kernel is not None
