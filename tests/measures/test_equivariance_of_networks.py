"""The equivariance error of the networks in `configs/model`, and of broken ones among them."""

import math

import pytest
import torch
from torch import nn

from src.measures import equivariance_errors
from tests.helpers.broken_layers import OppositeVectors, RestingVectors
from tests.helpers.measured import VECTORS, Function
from tests.helpers.objectives import configured_module

FORECASTERS = ["gcnn_smoke", "rgcnn_smoke", "e2cnn_smoke", "rsteer_smoke"]
every_model = pytest.mark.parametrize("model", ["gcnn", "rgcnn", "e2cnn", *FORECASTERS])


def make_network(model, *overrides):
    """At its start, with four channels per layer."""
    small = ["num_parameters=null", "hidden_channels=4", "num_layers=4"]
    small += ["residual=false"] if model in FORECASTERS else []
    return configured_module(model, *small, *overrides).net


def errors_of(network, group="c4"):
    forecasts = hasattr(network, "readout")
    x = torch.randn(4, 4 if forecasts else 1, 12, 12, generator=torch.Generator().manual_seed(1))
    return equivariance_errors(network, [x], group, **(VECTORS if forecasts else {}))


@every_model
def test_networks_on_a_group_start_without_error(model):
    found = errors_of(make_network(model, "group=d4"), "d4")
    assert len(found.per_layer) >= 3
    assert max(found.overall, *found.per_layer.values()) < 1e-5


@every_model
def test_networks_with_a_broken_end(model):
    """Two of three turns change the sign of all outputs: an error of 2, 0 and 2.

    Pooling with alternating signs does, and so does mirroring vectors but not the picture, so that
    vectors turn one way and pixels the other: they end opposite to those turned right by a quarter.
    """
    network = make_network(model)
    if model in FORECASTERS:
        mirrored = Function(lambda v: torch.stack([-v[:, 0], v[:, 1]], 1))
        network.readout = nn.Sequential(network.readout, mirrored)
    else:
        network.group_pool = Function(lambda x: x[:, :, 0::2].sum(2) - x[:, :, 1::2].sum(2))
        nn.init.zeros_(network.head.bias)
    found = errors_of(network)
    assert found.overall == pytest.approx(4 / 3, rel=1e-3)
    assert max(found.per_layer.values()) < 1e-5


@pytest.mark.parametrize(
    ("layer", "expected"), [(OppositeVectors, 4 / 3), (RestingVectors, (2 + math.sqrt(8)) / 3)]
)
def test_a_forecaster_with_a_broken_readout(layer, expected):
    network = make_network("gcnn_smoke")
    network.readout = layer(4, 1, 3, "c4")
    assert errors_of(network).overall == pytest.approx(expected, rel=1e-4)
