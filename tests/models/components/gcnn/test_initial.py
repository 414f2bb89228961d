"""New kernels of every layer, alone and in every network, have one variance."""

from math import ceil, sqrt

import pytest
import torch
from torch import nn

from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.e2cnn import E2CNN, RelaxedSteerableConv
from src.models.components.e2forecasters import E2CNNForecaster, RelaxedSteerableForecaster
from src.models.components.forecasters import (
    CNNForecaster,
    GCNNForecaster,
    RelaxedGCNNForecaster,
    RelaxedTranslationForecaster,
)
from src.models.components.gcnn.caching import ExpandedConv
from src.models.components.gcnn.initial import ImageConv
from src.models.components.gcnn.kernels import INTERPOLATIONS
from src.models.components.translation import RelaxedTranslationConv
from tests.helpers.layer_cases import RELAXED, STRICT, make_layer

PLAIN = [(CNN, {}), (CNNForecaster, {}), (RelaxedTranslationForecaster, {"grid_size": (4, 4)})]
ON_GROUPS = [GCNN, RelaxedGCNN, E2CNN, GCNNForecaster, RelaxedGCNNForecaster, E2CNNForecaster]
ON_GROUPS += [RelaxedSteerableForecaster]
NETWORKS = [*PLAIN, *((n, {"group": g}) for n in ON_GROUPS for g in ("c4", "c8", "d4"))]


def variance_times_fan_in(layer, num_drawn=20_000):
    """Mean square of the expanded kernel, times its fan-in, over many draws of a small layer."""
    copies = getattr(layer, "num_filter_banks", 1)  # numbers that make one of the kernel
    copies = layer.kernel_size**2 if isinstance(layer, RelaxedSteerableConv) else copies
    draws = ceil(num_drawn * copies / layer.weight.numel())
    total = 0.0
    for _ in range(draws):
        layer.reset_parameters()
        kernel = layer.weight
        if isinstance(layer, ExpandedConv):
            kernel = layer.expanded_kernel()
        elif isinstance(layer, RelaxedTranslationConv):
            kernel = layer.weight.mean(0)
        total += kernel.square().mean().item() * kernel[0].numel()
    return total / draws


@pytest.mark.parametrize("gain", [1.0, sqrt(6)])
@pytest.mark.parametrize(("network", "options"), NETWORKS)
@torch.no_grad()
def test_every_layer_of_every_network_starts_with_one_variance(monkeypatch, network, options, gain):
    """gain^2 / (3 fan_in), of each layer within 5 %."""
    monkeypatch.setattr("src.models.components.gcnn.initial.GAIN", gain)
    torch.manual_seed(0)
    net = network(hidden_channels=4, num_layers=4, **options)
    kinds = ExpandedConv, RelaxedTranslationConv, nn.Conv2d
    layers = {name: layer for name, layer in net.named_modules() if isinstance(layer, kinds)}
    assert len(layers) == 4
    found = {name: variance_times_fan_in(layer) for name, layer in layers.items()}
    assert found == pytest.approx(dict.fromkeys(layers, gain**2 / 3), rel=0.05)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"interpolation": how}) for name in STRICT for how in INTERPOLATIONS),
        *((name, {"num_filter_banks": banks}) for name in RELAXED for banks in (1, 3, 16)),
        *(("translation", {"num_filter_banks": banks}) for banks in (1, 3, 16)),
    ],
)
@torch.no_grad()
def test_whatever_the_interpolation_and_the_number_of_banks(name, options):
    layer = make_layer(name, 5, "c8", (6, 8), **options)
    assert variance_times_fan_in(layer) == pytest.approx(1 / 3, rel=0.05)


def test_the_plain_convolution_is_that_of_torch():
    new = []
    for kind in (ImageConv, nn.Conv2d):
        torch.manual_seed(0)
        new.append(kind(2, 3, 3))
    assert torch.equal(new[0].weight, new[1].weight) and torch.equal(new[0].bias, new[1].bias)
