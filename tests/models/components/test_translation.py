import pytest
import torch
import torch.nn.functional as F

from src.models.components.translation import RelaxedTranslationConv
from tests.helpers.equivariance import GATES
from tests.helpers.layer_cases import assert_equals_twin


@pytest.mark.parametrize(
    ("kernel_size", "options"),
    [(1, {}), (3, {}), (5, {"padding": "valid"}), (3, {"padding": 2, "num_filter_banks": 1})],
)
def test_equals_slow_twin(double_precision, kernel_size, options):
    assert_equals_twin(
        RelaxedTranslationConv(2, 3, kernel_size, (7, 9), **{"num_filter_banks": 3, **options})
    )


@pytest.mark.parametrize("num_filter_banks", [1, 3])
@torch.no_grad()
def test_starts_equivariant_to_translations_until_a_weight_moves(num_filter_banks):
    """||f(s x) - s f(x)|| / ||f(x)|| for a picture whose content stays inside when moved."""
    layer = RelaxedTranslationConv(2, 3, 3, (14, 14), num_filter_banks=num_filter_banks)

    def shift_error(dtype):
        x = F.pad(torch.randn(2, 2, 4, 4, dtype=dtype), [4, 6, 4, 6])
        y, moved = layer.to(dtype)(x), layer(x.roll((3, 2), (-2, -1)))
        return (moved - y.roll((3, 2), (-2, -1))).norm() / y.norm()

    assert layer.relaxation_penalty() == 0
    for dtype in (torch.float32, torch.float64):
        assert shift_error(dtype) < GATES[dtype]
    layer.relaxed_weights[0, 5, 6] += 1.0
    assert shift_error(dtype) > 1e-2
    assert layer.relaxation_penalty() > 0


@pytest.mark.parametrize("banks", [1, 3, 16])
def test_starts_as_a_new_convolution_with_the_mean_of_the_banks(banks):
    torch.manual_seed(0)
    layer = RelaxedTranslationConv(32, 64, 5, (8, 9), num_filter_banks=banks)
    shapes = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
    weight = (banks, 64, 32, 5, 5)
    assert shapes == {"weight": weight, "relaxed_weights": (banks, 8, 9), "bias": (64,)}
    x, fan_in = torch.randn(2, 32, 8, 9), 32 * 25
    expected = F.conv2d(x, layer.weight.mean(0), layer.bias, padding=2)
    assert torch.allclose(layer(x), expected, atol=1e-5)
    assert layer.bias.abs().max() <= 1 / fan_in**0.5
    layer.bias = None  # as with bias=False
    assert torch.allclose(layer(x), F.conv2d(x, layer.weight.mean(0), padding=2), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "`in_channels` must be an integer of at least 1; got 0"),
        ({"out_channels": 1.5}, "`out_channels` must be an integer of at least 1; got 1.5"),
        ({"kernel_size": 4}, "`kernel_size` must be odd.*got 4. Use 3 or 5"),
        ({"num_filter_banks": 0}, "`num_filter_banks` must be an integer of at least 1; got 0"),
        ({"padding": "full"}, "`padding` must be one of same, valid.*got 'full'"),
        ({"grid_size": 8}, r"`grid_size` must be the input's height and width; got 8. Use"),
        ({"grid_size": "64"}, "`grid_size` must be .*got '64'. Use"),
        ({"grid_size": (8, 0)}, "`grid_size` must be an integer of at least 1; got 0"),
        ({"grid_size": (8, 4), "kernel_size": 5, "padding": 0}, "`grid_size`.* at least 5; got 4"),
    ],
)
def test_bad_arguments(options, message):
    arguments = {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "grid_size": (8, 8)}
    with pytest.raises(ValueError, match=message):
        RelaxedTranslationConv(**{**arguments, **options})
