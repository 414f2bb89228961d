"""Compilation, bfloat16 and channels_last: the same results as without."""

import pytest
import torch

from src.models.components.classifiers import GCNN, RelaxedGCNN
from src.models.components.gcnn import RelaxedGroupConv, RelaxedLiftingConv

NETWORKS = {"strict": GCNN, "relaxed": RelaxedGCNN}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
every_group = pytest.mark.parametrize(("group", "kernel_size"), [("c4", 3), ("c8", 5)])


def make(network, group="c4", kernel_size=3):
    torch.manual_seed(0)
    return network(
        group=group, kernel_size=kernel_size, hidden_channels=2, num_layers=3, pool_after=(2,)
    )


def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 1, 10, 10, generator=generator)


def logits_and_gradients(net, forward, x):
    logits = forward(x)
    return logits, torch.autograd.grad(logits.float().square().sum(), list(net.parameters()))


def assert_close(ours, expected, tolerance):
    """Relative to the largest number of each tensor."""
    for a, b in zip((ours[0], *ours[1]), (expected[0], *expected[1]), strict=True):
        assert (a.float() - b).abs().max() <= tolerance * b.abs().max().clamp(min=1e-3)


@pytest.mark.slow
@every_network
@every_group
def test_compiles_to_one_graph(network, group, kernel_size):
    """Traced through autograd too, without a C++ compiler."""
    torch.compiler.reset()
    net = make(network, group, kernel_size)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    expected = logits_and_gradients(net, net, images())
    assert_close(logits_and_gradients(net, compiled, images()), expected, 1e-4)
    net.eval()
    with torch.no_grad():
        assert torch.allclose(compiled(images()), net(images()), atol=1e-5)


@every_network
@every_group
def test_bfloat16_autocast_is_near_float32(network, group, kernel_size):
    net = make(network, group, kernel_size)
    expected = logits_and_gradients(net, net, images())
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(images())
    assert logits.dtype is torch.bfloat16
    gradients = torch.autograd.grad(logits.float().square().sum(), list(net.parameters()))
    assert all(g.dtype is torch.float32 for g in gradients)
    assert_close((logits, gradients), expected, 0.2)


@pytest.mark.parametrize("layer_class", [RelaxedLiftingConv, RelaxedGroupConv])
def test_layers_in_bfloat16(layer_class):
    layer = layer_class(2, 3, 3, "c4", num_filter_banks=2)
    shape = (1, 2, 5, 5) if layer_class is RelaxedLiftingConv else (1, 2, 4, 5, 5)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = layer(x)
    y = layer.to(torch.bfloat16)(x.to(torch.bfloat16))
    assert y.dtype is torch.bfloat16
    assert (y.float() - expected).abs().max() < 0.05 * expected.abs().max()


@every_network
@every_group
@pytest.mark.parametrize("training", [True, False])
def test_channels_last_gives_the_same(network, group, kernel_size, training):
    net = make(network, group, kernel_size).train(training)
    expected = logits_and_gradients(net, net, images())
    x = images().expand(-1, 1, -1, -1).to(memory_format=torch.channels_last)
    assert_close(logits_and_gradients(net, net, x), expected, 1e-4)
