"""What the tests of all layers on a group have in common."""

import pytest
import torch
from torch import Tensor, nn

from src.models.components.gcnn import RelaxedLayer, VectorReadout
from tests.helpers import slow_layers

GROUPS = ["c1", "c2", "c3", "c4", "c8", "d1", "d4"]
KERNEL_SIZES = [1, 3, 5, 7]

every_group = pytest.mark.parametrize("group", GROUPS)
every_kernel_size = pytest.mark.parametrize("kernel_size", KERNEL_SIZES)
every_stride = pytest.mark.parametrize("stride", [1, 2])
every_number_of_banks = pytest.mark.parametrize("num_filter_banks", [1, 3])


@pytest.fixture
def double_precision():
    """Build layers in float64, their constants included."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def randomize(layer: nn.Module) -> None:
    """Move every parameter, the relaxed weights and the bias too, away from its start."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()


def slow_kernel(layer: nn.Module) -> Tensor:
    """The expanded kernel as the slow twin computes it from the layer's parameters."""
    weight = layer.weight
    relaxed_weights = weight.new_ones(1, layer.group.order)
    if isinstance(layer, RelaxedLayer):
        relaxed_weights = layer.relaxed_weights
    else:
        weight = weight[None]
    arguments = (weight, relaxed_weights, layer.group.name, layer.interpolation)
    if isinstance(layer, VectorReadout):
        return slow_layers.readout_kernel(*arguments)
    if layer.in_type == "regular":
        return slow_layers.group_kernel(*arguments)
    return slow_layers.lifting_kernel(*arguments, layer.in_type)


def slow_forward(layer: nn.Module, x: Tensor) -> Tensor:
    order = 1 if isinstance(layer, VectorReadout) else layer.group.order
    x = x.flatten(1, -3)
    y = slow_layers.convolve(x, slow_kernel(layer), layer.bias, layer.stride, order)
    if isinstance(layer, VectorReadout):
        return y.squeeze(2)
    group_biases = getattr(layer, "group_biases", None)
    return y if group_biases is None else y + group_biases[:, :, None, None]


def assert_equals_twin(layer: nn.Module, x: Tensor) -> None:
    """Kernel, output and all gradients equal the slow twin's."""
    randomize(layer)
    x = x.requires_grad_()
    inputs = [x, *layer.parameters()]
    fast, slow = layer(x), slow_forward(layer, x)
    assert torch.allclose(layer.expanded_kernel(), slow_kernel(layer), rtol=0, atol=1e-12)
    assert fast.shape == slow.shape
    assert torch.allclose(fast, slow, rtol=1e-12, atol=1e-10)
    cotangent = torch.randn_like(fast)
    gradients = zip(
        torch.autograd.grad(fast, inputs, cotangent), torch.autograd.grad(slow, inputs, cotangent)
    )
    for ours, theirs in gradients:
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-9)


def assert_gradients_check(layer: nn.Module, x: Tensor) -> None:
    """First and second derivatives agree with finite differences, in float64."""
    names = [name for name, _ in layer.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]

    def forward(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values)), (x,)).tanh()

    inputs = (x.requires_grad_(), *parameters)
    assert torch.autograd.gradcheck(forward, inputs)
    assert torch.autograd.gradgradcheck(forward, inputs)


def assert_variance_of_conv2d(layer: nn.Module) -> None:
    """A new layer's expanded kernel varies as a new `nn.Conv2d`'s weight: 1 / (3 fan_in)."""
    kernel = layer.expanded_kernel()
    fan_in = kernel[0].numel()
    assert torch.isclose(kernel.var() * 3 * fan_in, torch.tensor(1.0), rtol=0.05)


def move_one_weight(layer: RelaxedLayer) -> None:
    with torch.no_grad():
        layer.relaxed_weights[0, 1] += 0.5


def assert_compiles(layer: nn.Module, x: Tensor) -> None:
    """One graph, traced through autograd too, without a C++ compiler; the same results."""
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    fast, slow = compiled(x), layer(x)
    assert torch.allclose(fast, slow, atol=1e-5)
    parameters = list(layer.parameters())
    gradients = zip(
        torch.autograd.grad(fast.square().sum(), parameters),
        torch.autograd.grad(slow.square().sum(), parameters),
    )
    for ours, theirs in gradients:
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def assert_near_in_bfloat16(layer: nn.Module, x: Tensor) -> None:
    """Under autocast and with parameters of bfloat16, within its precision of float32."""
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = layer(x)
    half = layer.to(torch.bfloat16)(x.to(torch.bfloat16))
    for y in (autocast, half):
        assert y.dtype is torch.bfloat16
        assert (y.float() - expected).abs().max() < 0.05 * expected.abs().max()
