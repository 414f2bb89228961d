import pytest
import torch
import torch.nn.functional as F

from src.models.components.translation import RelaxedTranslationConv
from tests.helpers.equivariance import GATES
from tests.helpers.layer_cases import (
    assert_compiles,
    assert_gradients_check,
    assert_near_in_bfloat16,
    double_precision,
    randomize,
)
from tests.helpers.slow_layers import translation_forward

__all__ = ["double_precision"]


@pytest.mark.parametrize("num_filter_banks", [1, 3])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("padding", ["same", "valid", 1])
def test_equals_slow_twin(double_precision, num_filter_banks, kernel_size, padding):
    layer = RelaxedTranslationConv(
        2, 3, kernel_size, (7, 6), num_filter_banks=num_filter_banks, padding=padding
    )
    randomize(layer)
    x = torch.randn(2, 2, 7, 6).requires_grad_()
    fast = layer(x)
    slow = translation_forward(x, layer.weight, layer.relaxed_weights, layer.bias, layer.padding)
    assert fast.shape == slow.shape
    assert torch.allclose(fast, slow, rtol=1e-12, atol=1e-10)
    inputs, cotangent = [x, *layer.parameters()], torch.randn_like(fast)
    gradients = zip(
        torch.autograd.grad(fast, inputs, cotangent), torch.autograd.grad(slow, inputs, cotangent)
    )
    for ours, theirs in gradients:
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-9)


def shift_error(layer, dtype):
    """||f(s x) - s f(x)|| / ||f(x)|| for a picture whose content stays inside when moved."""
    x = F.pad(torch.randn(2, 2, 4, 4, dtype=dtype), [4, 6, 4, 6])
    y = layer(x)
    moved = layer(x.roll((3, 2), (-2, -1)))
    return ((moved - y.roll((3, 2), (-2, -1))).norm() / y.norm()).item()


@pytest.mark.parametrize("num_filter_banks", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_starts_equivariant_to_translations(num_filter_banks, dtype):
    layer = RelaxedTranslationConv(2, 3, 3, (14, 14), num_filter_banks=num_filter_banks).to(dtype)
    assert layer.relaxation_penalty() == 0
    assert shift_error(layer, dtype) < GATES[dtype]


@torch.no_grad()
def test_moving_one_weight_breaks_equivariance():
    layer = RelaxedTranslationConv(2, 3, 3, (14, 14))
    layer.relaxed_weights[0, 5, 6] += 1.0
    assert shift_error(layer, torch.float32) > 1e-2
    assert layer.relaxation_penalty() > 0


@pytest.mark.parametrize("num_filter_banks", [1, 3])
def test_starts_as_the_convolution_with_the_mean_of_the_banks(num_filter_banks):
    layer = RelaxedTranslationConv(2, 3, 3, (8, 9), num_filter_banks=num_filter_banks)
    x = torch.randn(2, 2, 8, 9)
    expected = F.conv2d(x, layer.weight.mean(0), layer.bias, padding=1)
    assert torch.allclose(layer(x), expected, atol=1e-6)


@pytest.mark.parametrize("num_filter_banks", [1, 3, 16])
def test_new_kernel_has_the_variance_of_conv2d_whatever_the_banks(num_filter_banks):
    torch.manual_seed(0)
    layer = RelaxedTranslationConv(32, 64, 5, (1, 1), num_filter_banks=num_filter_banks)
    fan_in = 32 * 25
    assert layer.weight.mean(0).var().item() * 3 * fan_in == pytest.approx(1, rel=0.05)
    assert layer.bias.abs().max() <= 1 / fan_in**0.5


def test_first_and_second_derivatives(double_precision):
    layer = RelaxedTranslationConv(1, 2, 3, (3, 4))
    assert_gradients_check(layer, torch.randn(1, 1, 3, 4))


def test_penalty_and_error_by_hand():
    layer = RelaxedTranslationConv(1, 1, 3, (2, 3), num_filter_banks=1)
    with torch.no_grad():
        layer.relaxed_weights.copy_(torch.tensor([[1.0, 1.0, 4.0], [1.0, 1.0, 1.0]]))
    # seven neighbouring pairs; two of them differ, each by 3
    assert layer.relaxation_penalty().item() == pytest.approx(6 / 7)
    assert layer.relaxed_weight_error().item() == pytest.approx(6 / 7 / 1.5)


def test_state():
    layer = RelaxedTranslationConv(2, 3, 3, (8, 9), num_filter_banks=4)
    shapes = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
    assert shapes == {
        "weight": (4, 3, 2, 3, 3),
        "relaxed_weights": (4, 8, 9),
        "bias": (3,),
    }
    assert RelaxedTranslationConv(2, 3, 3, (8, 9), bias=False).bias is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "`in_channels` must be an integer of at least 1; got 0"),
        ({"out_channels": 1.5}, "`out_channels` must be an integer of at least 1; got 1.5"),
        ({"kernel_size": 4}, "`kernel_size` must be odd.*got 4. Use 3 or 5"),
        ({"num_filter_banks": 0}, "`num_filter_banks` must be an integer of at least 1; got 0"),
        ({"padding": "full"}, "`padding` must be one of same, valid.*got 'full'"),
        ({"grid_size": 8}, r"`grid_size` must be the input's height and width; got 8. Use"),
        ({"grid_size": (8, 8, 8)}, r"`grid_size` must be .*got \(8, 8, 8\). Use"),
        ({"grid_size": "64"}, "`grid_size` must be .*got '64'. Use"),
        ({"grid_size": (8, 0)}, "`grid_size` must be an integer of at least 1; got 0"),
        (
            {"grid_size": (8, 4), "kernel_size": 5, "padding": "valid"},
            "`grid_size` must be an integer of at least 5; got 4",
        ),
    ],
)
def test_bad_arguments(options, message):
    arguments = {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "grid_size": (8, 8)}
    with pytest.raises(ValueError, match=message):
        RelaxedTranslationConv(**{**arguments, **options})


@pytest.mark.parametrize("shape", [(2, 2, 9, 8), (2, 3, 8, 9), (2, 2, 4, 8, 9)])
def test_wrong_input(shape):
    message = r"must have the shape \[B, 2, 8, 9\], because it has weights for each position; got"
    with pytest.raises(ValueError, match=message + ".*Change `in_channels` or `grid_size`"):
        RelaxedTranslationConv(2, 3, 3, (8, 9))(torch.randn(shape))


@pytest.mark.slow
def test_compiles_to_one_graph():
    assert_compiles(RelaxedTranslationConv(2, 3, 3, (8, 9)), torch.randn(2, 2, 8, 9))


def test_bfloat16_is_near_float32():
    torch.manual_seed(0)
    assert_near_in_bfloat16(RelaxedTranslationConv(2, 3, 3, (8, 9)), torch.randn(2, 2, 8, 9))
