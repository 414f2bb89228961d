"""A table of all layers, and what the tests of any of them have in common."""

import warnings

import pytest
import torch
from e2cnn import nn as enn
from torch import Tensor, nn

from src.models.components import gcnn
from src.models.components.e2cnn import E2Conv, RelaxedSteerableConv
from src.models.components.translation import RelaxedTranslationConv
from tests.helpers import slow_layers

BANKS = {"num_filter_banks": 3}
STRICT = {
    "lifting": (gcnn.LiftingConv, {}),
    "lifting of vectors": (gcnn.LiftingConv, {"in_type": "vector"}),
    "lifting of both": (gcnn.LiftingConv, {"in_type": "vector+scalar"}),
    "group": (gcnn.GroupConv, {}),
    "readout": (gcnn.VectorReadout, {}),
    "readout of both": (gcnn.VectorReadout, {"out_type": "vector+scalar"}),
}
RELAXED = {
    "relaxed lifting": (gcnn.RelaxedLiftingConv, {**BANKS, "group_biases": True}),
    "relaxed lifting of vectors": (gcnn.RelaxedLiftingConv, {**BANKS, "in_type": "vector"}),
    "relaxed lifting of both": (gcnn.RelaxedLiftingConv, {**BANKS, "in_type": "vector+scalar"}),
    "relaxed group": (gcnn.RelaxedGroupConv, {**BANKS, "group_biases": True}),
    "relaxed readout": (gcnn.RelaxedVectorReadout, BANKS),
    "relaxed readout of both": (gcnn.RelaxedVectorReadout, {**BANKS, "out_type": "vector+scalar"}),
}
ONLY_KERNELS = {"num_filter_banks": None, "kernel_biases": True, "free_kernel": "zero"}
FREE = {  # without filter banks, and all at once
    "free lifting": (gcnn.RelaxedLiftingConv, ONLY_KERNELS),
    "free lifting of vectors": (gcnn.RelaxedLiftingConv, {**ONLY_KERNELS, "in_type": "vector"}),
    "free group": (gcnn.RelaxedGroupConv, {**ONLY_KERNELS, **BANKS, "group_biases": True}),
    "free readout": (gcnn.RelaxedVectorReadout, ONLY_KERNELS),
}
STEERABLE = {"e2cnn": (E2Conv, {"bias": True}), "steerable": (RelaxedSteerableConv, {"bias": True})}
LAYERS = {**STRICT, **RELAXED, **FREE, **STEERABLE, "translation": (RelaxedTranslationConv, {})}
RELAXABLE = [*RELAXED, "steerable", "translation"]  # with weights shared in a strict layer


@pytest.fixture
def double_precision():
    """Build layers in float64, their constants included."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_layer(
    name: str, kernel_size: int = 3, group: str = "c4", channels: tuple = (2, 3), **options
) -> nn.Module:
    """A new layer of the table, always with the same parameters."""
    torch.manual_seed(0)
    layer_class, own = LAYERS[name]
    place = (7, 9) if name == "translation" else group
    return layer_class(*channels, kernel_size, place, **{**own, **options})


def library_layer(space, in_field, out_field, channels: tuple[int, int], k: int) -> enn.R2Conv:
    """e2cnn's own layer of (input, output) fields of one kind each, new and without bias."""
    fields = zip(channels, (in_field, out_field))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # e2cnn indexes with uint8 masks
        return enn.R2Conv(*(enn.FieldType(space, n * [kind]) for n, kind in fields), k, bias=False)


def make_input(layer: nn.Module, height: int = 7, width: int = 9, batch: int = 2) -> Tensor:
    """A random input of a layer, in the dtype of its parameters."""
    channels = (layer.in_channels,)
    if not isinstance(layer, RelaxedTranslationConv):
        fibre = layer.group.fibre_size(layer.in_type)
        regular = layer.in_type == "regular"
        channels = (layer.in_channels, fibre) if regular else (layer.in_channels * fibre,)
    return torch.randn(batch, *channels, height, width, dtype=layer.weight.dtype)


def randomize(layer: nn.Module) -> None:
    """Move every parameter, the relaxed weights and the bias too, away from its start."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()


def slow_kernel(layer: nn.Module) -> Tensor:
    """The expanded kernel as the slow twin computes it from the layer's parameters."""
    if isinstance(layer, E2Conv):
        weight = layer.weight if layer.weight.dim() == 5 else layer.weight[..., None, None]
        return slow_layers.steerable_kernel(weight, layer.basis)
    is_relaxed = isinstance(layer, gcnn.RelaxedLayer)
    weight = layer.weight if is_relaxed else layer.weight[None]
    relaxed_weights = getattr(layer, "relaxed_weights", None)
    if relaxed_weights is None:
        relaxed_weights = weight.new_ones(1, layer.group.order)
    arguments = (weight, relaxed_weights, layer.group.name, layer.interpolation)
    is_readout = isinstance(layer, gcnn.VectorReadout)
    if is_readout:
        kernel = slow_layers.readout_kernel(*arguments)
    elif layer.in_type == "regular":
        kernel = slow_layers.group_kernel(*arguments)
    else:
        kernel = slow_layers.lifting_kernel(*arguments, layer.in_type)
    if getattr(layer, "kernel_biases", None) is not None:
        biases = layer.kernel_biases.squeeze(2) if is_readout else layer.kernel_biases[:, :, 0, 0]
        kernel = slow_layers.add_kernel_biases(kernel, biases, layer.group.order, is_readout)
    if getattr(layer, "free_kernel", None) is not None:
        kernel = kernel + layer.free_kernel.reshape(kernel.shape)
    return kernel


def slow_forward(layer: nn.Module, x: Tensor) -> Tensor:
    """The output as the slow twin computes it."""
    if isinstance(layer, RelaxedTranslationConv):
        arguments = layer.weight, layer.relaxed_weights, layer.bias, layer.padding
        return slow_layers.translation_forward(x, *arguments)
    order = layer.group.fibre_size(layer.out_type)
    y = slow_layers.convolve(x.flatten(1, -3), slow_kernel(layer), layer.bias, layer.stride, order)
    group_biases = getattr(layer, "group_biases", None)
    if group_biases is not None:
        y = y + group_biases[:, :, None, None]
    return y if layer.out_type == "regular" else y.flatten(1, 2)


def assert_equal_gradients(ours: Tensor, theirs: Tensor, inputs: list, **tolerance) -> None:
    """Gradients of two outputs, for one random gradient of the output."""
    cotangent = torch.randn_like(ours)
    gradients = (torch.autograd.grad(y, inputs, cotangent) for y in (ours, theirs))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, **tolerance)


def assert_equals_twin(layer: nn.Module) -> None:
    """Kernel, output and all gradients equal the slow twin's, in float64."""
    randomize(layer)
    x = make_input(layer).requires_grad_()
    fast, slow = layer(x), slow_forward(layer, x)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-10)
    assert_equal_gradients(fast, slow, [x, *layer.parameters()], rtol=1e-10, atol=1e-9)
    if not isinstance(layer, RelaxedTranslationConv):
        kernel = layer.expanded_kernel()
        torch.testing.assert_close(kernel, slow_kernel(layer), rtol=0, atol=1e-12)
