"""The equivariance error of the networks in `configs/model`, and of broken ones among them."""

import math
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn

from src.measures import equivariance_errors
from src.runs.resolvers import register_resolvers
from tests.helpers.broken_layers import (
    NoCyclicShift,
    OppositeVectors,
    RestingVectors,
    WrongSense,
    strongly_relaxed,
)

CONFIGS = Path(__file__).parents[2] / "configs"
CLASSIFIERS = ["gcnn", "rgcnn", "e2cnn"]
FORECASTERS = ["gcnn_smoke", "rgcnn_smoke", "e2cnn_smoke", "rsteer_smoke"]
VECTORS = {"input": "vector", "output": "vector"}


class AlternatingPool(nn.Module):
    """Adds maps of C_n with alternating signs: a turn by one step changes the sign."""

    def forward(self, x):
        return x[:, :, 0::2].sum(2) - x[:, :, 1::2].sum(2)


class MirroredVectors(nn.Module):
    """Mirrors vectors but not the picture, so that vectors turn one way and pixels the other."""

    def forward(self, v):
        return torch.stack([-v[:, 0], v[:, 1]], 1)


def make_network(model, *overrides):
    """The network of a config, at its start, with four channels per layer."""
    small = ["num_parameters=null", "hidden_channels=4", "num_layers=4", *overrides]
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        options = [f"model={model}", "+data.num_inputs=2", *(f"model.net.{o}" for o in small)]
        config = compose("train", options)
    torch.manual_seed(0)
    return instantiate(config.model.net, _convert_="all")


def pictures(channels):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, channels, 12, 12, generator=generator)


def errors_of(network, group="c4"):
    if hasattr(network, "readout"):
        return equivariance_errors(network, [pictures(4)], group, **VECTORS)
    return equivariance_errors(network, [pictures(1)], group)


@pytest.mark.parametrize("group", ["c4", "d4"])
@pytest.mark.parametrize("model", CLASSIFIERS + FORECASTERS)
def test_networks_on_a_group_start_without_error(model, group):
    overall, per_layer, floor = errors_of(make_network(model, f"group={group}"), group)
    assert overall < 1e-5
    assert len(per_layer) >= 3
    assert max(per_layer.values()) < 1e-5
    assert floor == 0


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_a_classifier_with_a_broken_pool(model):
    """Two of three turns change the sign of all logits: an error of 2, 0 and 2."""
    network = make_network(model)
    network.group_pool = AlternatingPool()
    nn.init.zeros_(network.head.bias)
    overall, per_layer, _ = errors_of(network)
    assert overall == pytest.approx(4 / 3, rel=1e-3)
    assert max(per_layer.values()) < 1e-5


@pytest.mark.parametrize(
    ("block", "layer"), [(0, WrongSense), (1, NoCyclicShift), (1, strongly_relaxed)]
)
def test_a_classifier_with_a_broken_layer(block, layer):
    """Its features are as far off as any; logits, means over the picture, show less of it."""
    network = make_network("gcnn")
    network.blocks[block][0] = layer(4 if block else 1, 4, 3, "c4", bias=False)
    overall, per_layer, _ = errors_of(network)
    errors = list(per_layer.values())
    assert max(errors[:block], default=0) < 1e-5
    assert 0.3 < errors[block] < 1.5
    assert overall > 1e-3


@pytest.mark.parametrize("model", FORECASTERS)
def test_a_forecaster_with_the_wrong_sense_of_vectors(model):
    """Vectors turned the wrong way point opposite to those turned right by a quarter."""
    network = make_network(model, "residual=false")
    network.readout = nn.Sequential(network.readout, MirroredVectors())
    overall, per_layer, _ = errors_of(network)
    assert overall == pytest.approx((2 + 0 + 2) / 3, rel=1e-4)
    assert max(per_layer.values()) < 1e-5


@pytest.mark.parametrize(
    ("layer", "expected"),
    [(OppositeVectors, 4 / 3), (RestingVectors, (math.sqrt(2) + 2 + math.sqrt(2)) / 3)],
)
def test_a_forecaster_with_a_broken_readout(layer, expected):
    network = make_network("gcnn_smoke", "residual=false")
    network.readout = layer(4, 1, 3, "c4")
    assert errors_of(network).overall == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("model", ["cnn", "cnn_smoke"])
def test_ordinary_networks_have_an_error(model):
    overall, per_layer, _ = errors_of(make_network(model))
    assert overall > 1e-4
    assert min(per_layer.values()) > 0.1
