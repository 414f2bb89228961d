import pytest
import torch

from src.models.components.gcnn import LiftingConv
from tests.helpers.equivariance import assert_equivariant
from tests.helpers.layer_cases import (
    assert_equals_twin,
    assert_gradients_check,
    assert_variance_of_conv2d,
    every_group,
    every_kernel_size,
    every_stride,
)

every_in_type = pytest.mark.parametrize("in_type", ["scalar", "vector"])


def image(in_type, height=7, width=9):
    return torch.randn(2, 2 if in_type == "scalar" else 4, height, width)


@every_group
@every_kernel_size
@every_stride
@every_in_type
def test_equals_slow_twin(double_precision, group, kernel_size, stride, in_type):
    layer = LiftingConv(2, 3, kernel_size, group, stride=stride, in_type=in_type)
    assert_equals_twin(layer, image(in_type))


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
def test_other_interpolations_equal_slow_twin(double_precision, interpolation):
    assert_equals_twin(LiftingConv(2, 3, 5, "c8", interpolation=interpolation), image("scalar"))


@every_group
@every_kernel_size
@every_stride
@every_in_type
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_equivariant(group, kernel_size, stride, in_type, dtype):
    layer = LiftingConv(2, 3, kernel_size, group, stride=stride, in_type=in_type).to(dtype)
    assert_equivariant(layer, image(in_type).to(dtype), group, in_type)


@every_in_type
def test_first_and_second_derivatives(double_precision, in_type):
    layer = LiftingConv(2, 2, 3, "c8", in_type=in_type)
    assert_gradients_check(layer, image(in_type, 3, 4)[:1])


@every_in_type
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "harmonic"])
def test_new_kernel_has_the_variance_of_conv2d(in_type, interpolation):
    torch.manual_seed(0)
    layer = LiftingConv(32, 64, 5, "c8", in_type=in_type, interpolation=interpolation)
    assert_variance_of_conv2d(layer)


@pytest.mark.parametrize(("padding", "size"), [("same", 9), ("valid", 5), (0, 5), (1, 7)])
def test_padding(padding, size):
    assert LiftingConv(1, 2, 5, "c4", padding=padding)(torch.randn(1, 1, 9, 9)).shape[-1] == size


def test_one_bias_per_channel_and_none_without():
    assert LiftingConv(1, 3, 3, "c4").bias.shape == (3,)
    assert LiftingConv(1, 3, 3, "c4", bias=False).bias is None


def test_constants_are_not_saved_and_survive_a_change_of_dtype():
    layer = LiftingConv(1, 2, 3, "c8")
    assert set(layer.state_dict()) == {"weight", "bias"}
    exact = torch.tensor(2.0, dtype=torch.float64).sqrt()
    transform = layer.double().transform
    assert (transform[1, 1] - exact).abs().min() > 1e-3  # an eighth turn mixes neighbours
    assert torch.equal(transform, layer._exact_transform())


@pytest.mark.parametrize(
    ("group", "options", "permutes"),
    [
        ("c4", {}, True),
        ("d4", {"interpolation": "bicubic"}, True),
        ("c8", {"interpolation": "nearest"}, False),
        ("c4", {"interpolation": "harmonic"}, False),
        ("c4", {"in_type": "vector"}, False),
    ],
)
def test_kernels_are_permuted_where_the_group_only_permutes(group, options, permutes):
    layer = LiftingConv(1, 2, 5, group, **options)
    assert layer.permutes == permutes
    assert set(dict(layer.named_buffers())) == ({"source"} if permutes else {"transform"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kernel_size": 4},
            "`kernel_size` must be odd so that a rotated kernel.*got 4. Use 3 or 5",
        ),
        ({"group": "so2"}, "`group` must be 'cN'"),
        ({"in_channels": 0}, "`in_channels` must be an integer of at least 1; got 0"),
        ({"out_channels": -1}, "`out_channels` must be an integer of at least 1; got -1"),
        ({"stride": 0}, "`stride` must be an integer of at least 1; got 0"),
        (
            {"padding": "full"},
            "`padding` must be one of same, valid, a number of pixels; got 'full'",
        ),
        ({"padding": -1}, "`padding` must be an integer of at least 0; got -1"),
        ({"interpolation": "cubic"}, "`interpolation` must be one of"),
        ({"in_type": "regular"}, "`in_type` must be one of scalar, vector; got 'regular'"),
    ],
)
def test_bad_arguments(options, message):
    arguments = {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "group": "c4", **options}
    with pytest.raises(ValueError, match=message):
        LiftingConv(**arguments)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 8, 8), (1, 2, 4, 8, 8)])
def test_wrong_input(shape):
    with pytest.raises(ValueError, match=r"must have the shape \[B, 2, H, W\].*got .*Change"):
        LiftingConv(2, 3, 3, "c4")(torch.randn(shape))


def test_vectors_count_twice():
    with pytest.raises(ValueError, match=r"shape \[B, 4, H, W\] \(2 vector channels"):
        LiftingConv(2, 3, 3, "c4", in_type="vector")(torch.randn(1, 2, 8, 8))
