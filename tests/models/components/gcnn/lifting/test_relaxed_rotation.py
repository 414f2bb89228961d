import pytest
import torch

from scripts.benchmarks import layers
from src.models.components.gcnn import LiftingConv, RelaxedLiftingConv
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

every_in_type = pytest.mark.parametrize("in_type", ["scalar", "vector"])


def image(in_type, height=7, width=9):
    return torch.randn(2, 2 if in_type == "scalar" else 4, height, width)


@every_group
@every_kernel_size
@every_number_of_banks
@every_stride
@every_in_type
def test_equals_slow_twin(double_precision, group, kernel_size, num_filter_banks, stride, in_type):
    layer = RelaxedLiftingConv(
        2, 3, kernel_size, group, num_filter_banks=num_filter_banks, stride=stride, in_type=in_type
    )
    assert_equals_twin(layer, image(in_type))


@every_group
@every_kernel_size
@every_in_type
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_starts_equivariant(group, kernel_size, in_type, dtype):
    layer = RelaxedLiftingConv(2, 3, kernel_size, group, num_filter_banks=3, in_type=in_type)
    assert layer.relaxed_weights.unique().numel() == 1
    assert_equivariant(layer.to(dtype), image(in_type).to(dtype), group, in_type)


@pytest.mark.parametrize("group", ["c2", "c4", "d1", "d4"])
@every_in_type
def test_moving_one_weight_breaks_equivariance(group, in_type):
    layer = RelaxedLiftingConv(2, 3, 3, group, num_filter_banks=2, in_type=in_type)
    move_one_weight(layer)
    assert equivariance_error(layer, image(in_type), group, in_type) > 1e-2


@pytest.mark.parametrize("bias", [True, False])
def test_group_biases_equal_slow_twin(double_precision, bias):
    layer = RelaxedLiftingConv(2, 3, 3, "d2", num_filter_banks=2, bias=bias, group_biases=True)
    assert_equals_twin(layer, image("scalar"))


@pytest.mark.parametrize("bias", [True, False])
def test_group_biases_start_equivariant_and_break_it_when_moved(bias):
    layer = RelaxedLiftingConv(2, 3, 3, "c4", bias=bias, group_biases=True)
    x = image("scalar")
    assert layer.group_biases.shape == (3, 4)
    assert_equivariant(layer, x, "c4", "scalar")
    with torch.no_grad():
        layer.group_biases[0, 1] += 0.5
    assert equivariance_error(layer, x, "c4", "scalar") > 1e-2


def test_without_group_biases_there_is_no_parameter():
    layer = RelaxedLiftingConv(2, 3, 3, "c4")
    assert layer.group_biases is None
    assert set(layer.state_dict()) == {"weight", "relaxed_weights", "bias"}


def test_one_bank_of_unit_weight_is_the_strict_layer():
    relaxed = RelaxedLiftingConv(2, 3, 5, "c8")
    strict = LiftingConv(2, 3, 5, "c8")
    strict.load_state_dict({"weight": relaxed.weight.data[0], "bias": relaxed.bias.data})
    assert torch.allclose(relaxed.expanded_kernel(), strict.expanded_kernel(), atol=1e-7)


def test_first_and_second_derivatives(double_precision):
    layer = RelaxedLiftingConv(2, 2, 3, "c8", num_filter_banks=2)
    assert_gradients_check(layer, image("scalar", 3, 4)[:1])


@pytest.mark.parametrize("num_filter_banks", [1, 3, 16])
def test_new_kernel_has_the_variance_of_conv2d_whatever_the_banks(num_filter_banks):
    torch.manual_seed(0)
    layer = RelaxedLiftingConv(32, 64, 5, "c8", num_filter_banks=num_filter_banks)
    assert_variance_of_conv2d(layer)


@pytest.mark.parametrize("num_filter_banks", [0, -1, 1.5])
def test_banks_must_be_a_positive_integer(num_filter_banks):
    with pytest.raises(ValueError, match="`num_filter_banks` must be an integer of at least 1"):
        RelaxedLiftingConv(1, 2, 3, "c4", num_filter_banks=num_filter_banks)


@pytest.mark.slow
@pytest.mark.parametrize("size", layers.SIZES["lifting"], ids=str)
@pytest.mark.parametrize("run", layers.PASSES)
@pytest.mark.parametrize("version", ["bank", "sum", "ours"])
def test_speed_of_building_the_kernel(benchmark, size, run, version):
    """`make bench`; `scripts/benchmark_layers.py` times the versions in turn instead."""
    benchmark.group = f"lifting {size}, {run}"
    layer = layers.make_layer("lifting", size)
    build = layers.make_builders(layer)[version]
    kernel = benchmark(layers.PASSES[run](build, list(layer.parameters())))
    assert kernel is not None
