import pytest
import torch

from src.models.components.e2cnn import E2Conv
from src.models.components.e2cnn_bases import FIELD_TYPES
from src.models.components.steerable import RelaxedSteerableConv
from tests.helpers.equivariance import assert_equivariant, equivariance_error
from tests.helpers.layer_cases import (
    assert_compiles,
    assert_gradients_check,
    assert_near_in_bfloat16,
    double_precision,
    randomize,
)
from tests.helpers.slow_layers import convolve, elements, steerable_kernel

__all__ = ["double_precision"]

GROUPS = ["c1", "c2", "c3", "c4", "c8", "d1", "d4"]
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
def test_equals_slow_twin(double_precision, group, in_type, out_type):
    layer = RelaxedSteerableConv(2, 3, 3, group, in_type, out_type, bias=out_type != "vector")
    randomize(layer)
    x = fields(in_type, group).requires_grad_()
    kernel = steerable_kernel(layer.weight, layer.basis)
    slow = convolve(x.flatten(1, -3), kernel, None, 1, 1).squeeze(2)
    if layer.bias is not None:
        slow = slow.unflatten(1, (3, -1)) + layer.bias[:, None, None, None]
    fast = layer(x)
    slow = slow.view(fast.shape)
    assert torch.allclose(layer.expanded_kernel(), kernel, rtol=0, atol=1e-12)
    assert torch.allclose(fast, slow, rtol=1e-12, atol=1e-10)
    inputs, cotangent = [x, *layer.parameters()], torch.randn_like(fast)
    gradients = zip(
        torch.autograd.grad(fast, inputs, cotangent), torch.autograd.grad(slow, inputs, cotangent)
    )
    for ours, theirs in gradients:
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-9)


@every_group
@every_in_type
@every_out_type
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_starts_equivariant(group, in_type, out_type, dtype):
    bias = out_type != "vector"
    layer = RelaxedSteerableConv(2, 3, 5, group, in_type, out_type, bias).to(dtype)
    torch.nn.init.normal_(layer.bias if bias else torch.empty(1))
    assert layer.relaxation_penalty() == 0
    assert layer.relaxed_weight_error() == 0
    assert_equivariant(layer, fields(in_type, group).to(dtype), group, in_type, out_type)


@every_in_type
@every_out_type
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_starts_as_the_strict_layer(in_type, out_type, kernel_size):
    arguments = (2, 3, kernel_size, "c4", in_type, out_type)
    torch.manual_seed(0)
    strict = E2Conv(*arguments)
    torch.manual_seed(0)
    relaxed = RelaxedSteerableConv(*arguments)
    assert torch.equal(relaxed.weight, strict.weight[..., None, None].expand_as(relaxed.weight))
    assert torch.allclose(relaxed.expanded_kernel(), strict.expanded_kernel(), atol=1e-7)


@pytest.mark.parametrize("group", ["c2", "c4", "d1", "d4"])
@pytest.mark.parametrize(
    ("in_type", "out_type"),
    [("vector", "regular"), ("regular", "regular"), ("regular", "vector"), ("vector", "vector")],
)
def test_moving_weights_at_one_pixel_breaks_equivariance(group, in_type, out_type):
    layer = RelaxedSteerableConv(2, 3, 3, group, in_type, out_type)
    with torch.no_grad():
        layer.weight[..., 0, 0] += 0.5
    error = equivariance_error(layer, fields(in_type, group), group, in_type, out_type)
    assert error > 1e-2
    assert layer.relaxation_penalty() > 0


def test_first_and_second_derivatives(double_precision):
    layer = RelaxedSteerableConv(1, 1, 3, "c4", "vector", "vector")
    assert_gradients_check(layer, fields("vector", "c4", 3, 4, channels=1)[:1])


def test_penalty_and_error_by_hand(double_precision):
    layer = RelaxedSteerableConv(1, 1, 3, "c4", "scalar", "scalar")
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.weight[0, 0, 0] = torch.tensor([[5.0, 2.0, 2.0], [2.0, 2.0, 2.0], [2.0, 2.0, 2.0]])
    # two kernels of twelve neighbouring pairs; two of these differ, each by 3
    assert layer.relaxation_penalty().item() == pytest.approx(2 * 3 / 24)
    mean = (18 * 2 + 3) / 18
    assert layer.relaxed_weight_error().item() == pytest.approx(2 * 3 / 24 / mean)


def test_the_ends_of_neighbouring_rows_are_no_neighbours(double_precision):
    """The grid is two-dimensional: along rows alone a step between rows would cost the same."""
    layer = RelaxedSteerableConv(1, 1, 3, "c4", "scalar", "scalar")
    rows = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    with torch.no_grad():
        layer.weight.copy_(rows)
    assert layer.relaxation_penalty().item() == pytest.approx(6 / 12)


def test_gradient_of_the_penalty_does_not_fade():
    layer = RelaxedSteerableConv(1, 1, 3, "c4", "scalar", "scalar")
    with torch.no_grad():
        layer.weight.zero_()[0, 0, 0, 1, 1] = 1e-6
    (gradient,) = torch.autograd.grad(layer.relaxation_penalty(), layer.weight)
    assert gradient[0, 0, 0, 1, 1].item() == pytest.approx(4 / 24)


@pytest.mark.parametrize(
    ("group", "in_type", "out_type", "expected"),
    [
        ("c1", "scalar", "scalar", (6 * 9, 6 * 9)),
        ("c4", "regular", "regular", (6 * 132, 6 * 144)),
        ("d4", "regular", "regular", (6 * 264, 6 * 576)),
        ("c4", "vector", "vector", (6 * 34, 6 * 36)),
    ],
)
def test_degrees_of_freedom(group, in_type, out_type, expected):
    layer = RelaxedSteerableConv(2, 3, 3, group, in_type, out_type)
    assert layer.degrees_of_freedom() == expected
    assert expected[1] == layer.expanded_kernel().numel()
    assert f"degrees_of_freedom={expected[0]} of {expected[1]}" in repr(layer)


@every_in_type
@every_out_type
def test_degrees_of_freedom_are_the_rank_of_the_map_to_kernels(double_precision, in_type, out_type):
    layer = RelaxedSteerableConv(1, 2, 3, "c4", in_type, out_type)

    def expand(weight):
        return torch.func.functional_call(Expander(layer), {"layer.weight": weight}, ())

    jacobian = torch.func.jacrev(expand)(layer.weight.detach())
    rank = torch.linalg.matrix_rank(jacobian.reshape(-1, layer.weight.numel()))
    assert layer.degrees_of_freedom()[0] == rank


class Expander(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self):
        return self.layer.expanded_kernel()


def test_state():
    layer = RelaxedSteerableConv(2, 3, 3, "c4", bias=True)
    shapes = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
    assert shapes == {"weight": (3, 2, 24, 3, 3), "bias": (3,)}
    twin = RelaxedSteerableConv(2, 3, 3, "c4", bias=True)
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin.expanded_kernel(), layer.expanded_kernel())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 2}, "`kernel_size` must be odd.*got 2. Use 1 or 3"),
        ({"out_type": "vector", "bias": True}, "`bias` must be False for vector outputs"),
        ({"in_type": "tensor"}, "`in_type` must be one of scalar, vector, regular"),
    ],
)
def test_bad_arguments(options, message):
    arguments = {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "group": "c4", **options}
    with pytest.raises(ValueError, match=message):
        RelaxedSteerableConv(**arguments)


def test_wrong_input():
    message = r"RelaxedSteerableConv must have the shape \[B, 4, H, W\].*got \[1, 2, 8, 8\]. Change"
    with pytest.raises(ValueError, match=message):
        RelaxedSteerableConv(2, 3, 3, "c4", "vector")(torch.randn(1, 2, 8, 8))


@pytest.mark.slow
def test_compiles_to_one_graph():
    assert_compiles(
        RelaxedSteerableConv(2, 3, 3, "c4", "vector", bias=True), fields("vector", "c4")
    )


def test_bfloat16_is_near_float32():
    torch.manual_seed(0)
    assert_near_in_bfloat16(
        RelaxedSteerableConv(2, 3, 3, "c4", "vector", bias=True), fields("vector", "c4")
    )
