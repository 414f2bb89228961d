import pytest
import torch

from src.models.components.gcnn import GroupConv, make_group
from tests.helpers.equivariance import assert_equivariant
from tests.helpers.layer_cases import (
    assert_equals_twin,
    assert_gradients_check,
    assert_variance_of_conv2d,
    every_group,
    every_kernel_size,
    every_stride,
)


def feature_map(group, height=5, width=7, channels=2):
    return torch.randn(2, channels, make_group(group).order, height, width)


@every_group
@every_kernel_size
@every_stride
def test_equals_slow_twin(double_precision, group, kernel_size, stride):
    assert_equals_twin(GroupConv(2, 3, kernel_size, group, stride=stride), feature_map(group))


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
def test_other_interpolations_equal_slow_twin(double_precision, interpolation):
    assert_equals_twin(GroupConv(2, 3, 5, "c8", interpolation=interpolation), feature_map("c8"))


@every_group
@every_kernel_size
@every_stride
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_equivariant(group, kernel_size, stride, dtype):
    layer = GroupConv(2, 3, kernel_size, group, stride=stride).to(dtype)
    assert_equivariant(layer, feature_map(group).to(dtype), group, "regular")


def test_first_and_second_derivatives(double_precision):
    assert_gradients_check(GroupConv(1, 2, 3, "c3"), feature_map("c3", 2, 3, channels=1)[:1])


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "harmonic"])
def test_new_kernel_has_the_variance_of_conv2d(interpolation):
    torch.manual_seed(0)
    assert_variance_of_conv2d(GroupConv(16, 32, 5, "c8", interpolation=interpolation))


def test_constants_are_not_saved():
    assert set(GroupConv(1, 2, 3, "c8").state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("shape", [(1, 2, 8, 5, 5), (1, 3, 4, 5, 5), (1, 8, 5, 5)])
def test_wrong_input(shape):
    with pytest.raises(
        ValueError, match=r"must have the shape \[B, 2, 4, H, W\] .*group c4.*got .*Change"
    ):
        GroupConv(2, 3, 3, "c4")(torch.randn(shape))


def test_even_kernel_size():
    with pytest.raises(ValueError, match="must be odd so that a rotated kernel stays centred"):
        GroupConv(2, 3, 2, "c4")
