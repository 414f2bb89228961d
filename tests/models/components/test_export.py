import subprocess
import sys
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from src.models.components import gcnn
from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.e2cnn import E2CNN, E2Conv, RelaxedSteerableConv
from src.models.components.e2forecasters import RelaxedSteerableForecaster
from src.models.components.export import AnySizePool, export
from src.models.components.forecasters import (
    RelaxedGCNNForecaster,
    RelaxedTranslationForecaster,
)
from src.models.components.gcnn.caching import ExpandedConv
from src.models.components.gcnn.relaxation import set_relaxation
from src.models.components.unets import RelaxedGroupUNetForecaster

SMALL = {"hidden_channels": [2, 3, 2], "num_layers": 3, "pool_after": [2], "num_classes": 4}
FORECASTER = {"hidden_channels": 2, "num_layers": 3, "num_inputs": 1, "norm": "batch"}

LOAD_ALONE = """
import sys, torch
sys.modules["src"] = None  # as if it were not installed: importing it fails
images, logits = torch.load("expected.pt")
program = torch.export.load("network.pt2").module()
with torch.no_grad():
    torch.testing.assert_close(program(images), logits, rtol=1e-5, atol=1e-5)
assert not [name for name in sys.modules if name.startswith(("src.", "e2cnn"))]
"""


def as_if_trained(network):
    """Move every parameter and statistic away from where it starts."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        for norm in (m for m in network.modules() if getattr(m, "running_mean", None) is not None):
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.3, 3, generator=generator)
    return network


@torch.no_grad()
def assert_same_outputs(network, shape=(3, 1, 12, 12)):
    dtype = next(network.parameters()).dtype
    images = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    plain = export(network)
    expected = deepcopy(network).eval()(images)
    assert expected.std() > 1e-2
    tolerance = 1e-12 if dtype is torch.float64 else 1e-5
    assert (plain(images) - expected).abs().max() <= tolerance * max(1, expected.abs().max())
    assert not any(m.training or isinstance(m, ExpandedConv) for m in plain.modules())
    return plain


class Skips(nn.Module):
    """Layers in a list, one of them used twice, around a forward of its own."""

    def __init__(self, in_channels=2):
        super().__init__()
        self.group = "d2"
        self.lift = gcnn.RelaxedLiftingConv(in_channels, 2, 3, "d2")
        shared = gcnn.RelaxedGroupConv(2, 2, 3, "d2")
        self.layers = nn.ModuleList([shared, gcnn.GroupConv(2, 2, 5, "d2"), shared])
        self.norms = nn.ModuleDict({"a": gcnn.GroupBatchNorm(2), "b": gcnn.GroupBatchNorm(2)})
        self.pools = nn.ModuleList([gcnn.SpatialPool(2, "mean"), gcnn.SpatialPool(3)])
        self.head = nn.Linear(2, 3)

    def forward(self, x):
        h = self.lift(x)
        for layer in self.layers:
            h = h + torch.relu(self.norms["a"](layer(h)))
        for pool in self.pools:
            h = pool(self.norms["b"](h))
        return self.head(h.amax(2).mean((-2, -1))) * h.shape[2]


def two_groups():
    """A norm on the one group cannot be told from one on the other."""
    lift, conv = gcnn.LiftingConv(2, 2, 3, "c2"), gcnn.GroupConv(2, 2, 3, "c2")
    other = gcnn.LiftingConv(2, 3, 3, "c4")
    one = nn.Sequential(lift, gcnn.GroupBatchNorm(2), conv, gcnn.GroupPool())
    return nn.Sequential(one, other, gcnn.GroupBatchNorm(3), gcnn.GroupPool("mean"))


def batch_statistics():
    network = GCNN(in_channels=2, **SMALL)
    network.blocks[1][1] = gcnn.GroupBatchNorm(3, track_running_stats=False)
    return network


def ordinary():
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.GroupNorm(1, 3), nn.Flatten(), nn.LazyLinear(3))


@pytest.mark.parametrize(
    "make",
    [
        partial(CNN, in_channels=2, dropout=0.5, **SMALL),
        partial(GCNN, in_channels=2, group="d4", group_pool="mean", **SMALL),
        partial(GCNN, in_channels=2, group="c8", in_type="vector", **SMALL),
        partial(RelaxedGCNN, in_channels=2, group="c8", num_filter_banks=3, **SMALL),
        partial(RelaxedGCNN, in_channels=2, interpolation="harmonic", kernel_size=1, **SMALL),
        partial(GCNN, in_channels=2, group=["d4", "c4", "c1"], **SMALL),
        partial(RelaxedGCNN, in_channels=2, kernel_biases=True, free_kernel="zero", **SMALL),
        partial(E2CNN, in_channels=2, group="d1", norm="group", **SMALL),
        partial(GCNN, in_channels=2, norm="none", **SMALL),
        partial(CNN, in_channels=2, norm="group", **SMALL),
        partial(RelaxedGCNNForecaster, group_biases=True, **FORECASTER),
        partial(RelaxedSteerableForecaster, **FORECASTER),
        partial(RelaxedGroupUNetForecaster, num_inputs=1, hidden_channels=2, norm="batch"),
        partial(RelaxedTranslationForecaster, grid_size=(9, 14), **FORECASTER),
        partial(gcnn.VectorReadout, 2, 1, 3, "c4"),
        Skips,
        two_groups,
        batch_statistics,
        ordinary,
    ],
)
def test_networks(make):
    network = make()
    shape = (3, 2, 4, 9, 9) if isinstance(network, gcnn.VectorReadout) else (3, 2, 9, 14)
    network(torch.zeros(shape))  # lazy layers
    assert_same_outputs(as_if_trained(network), shape)
    assert_same_outputs(network.double(), shape)


def fill(network, value):
    for parameter in network.parameters():
        nn.init.constant_(parameter, value)


@pytest.mark.parametrize("network", [CNN, RelaxedGCNN, E2CNN])
def test_network_and_copy_share_nothing(network):
    for training in (True, False):
        net = as_if_trained(network(**SMALL)).train(training)
        before, modes = deepcopy(net.state_dict()), [m.training for m in net.modules()]
        plain, images = export(net), torch.randn(2, 1, 12, 12)
        expected = plain(images)
        fill(net, 0.0)
        assert torch.equal(plain(images), expected)
        net.load_state_dict(before)
        plain.train()(images).square().sum().backward()  # it trains as an ordinary network
        assert all(p.requires_grad and p.grad.abs().sum() > 0 for p in plain.parameters())
        fill(plain, 0.0)
        after = net.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert [m.training for m in net.modules()] == modes


def test_the_plain_network_is_as_strict():
    network, x = as_if_trained(RelaxedGCNN(**SMALL)), torch.randn(2, 1, 12, 12)
    set_relaxation(network, 0.0)
    plain = assert_same_outputs(network)
    assert torch.allclose(plain(x), plain(x.rot90(1, (-2, -1))), atol=1e-4)
    set_relaxation(network, None)
    assert not torch.allclose(export(network)(x), plain(x), atol=1e-2)


def test_a_layer_in_several_places_stays_one():
    plain = export(Skips())
    assert plain.layers[0] is plain.layers[2]
    assert plain.layers[0].out_channels == 2 and plain.layers[0].group.name == "d2"


@pytest.mark.parametrize(
    "layers",
    [
        [
            gcnn.RelaxedLiftingConv(2, 2, 3, "d2", group_biases=True),
            gcnn.RelaxedGroupConv(2, 3, 3, "d2", bias=False, group_biases=True),
            gcnn.RelaxedGroupConv(3, 2, 3, "d2"),
        ],
        [
            E2Conv(2, 2, 3, "d2", "scalar", bias=True),
            RelaxedSteerableConv(2, 3, 3, "d2", bias=True),
            RelaxedSteerableConv(3, 2, 5, "d2"),
        ],
        [
            gcnn.LiftingConv(1, 2, 5, "d2", in_type="vector", padding="valid"),
            nn.Sequential(gcnn.GroupConv(2, 3, 3, "d2", stride=2, padding=2), nn.Dropout3d(0.5)),
            gcnn.GroupConv(3, 2, 3, "d2", bias=False),
        ],
    ],
)
def test_every_kind_and_option_of_layers(layers):
    """Vectors, strides, paddings, biases, mean pooling, norms after activations."""
    network = GCNN(group="d2", in_channels=2, **SMALL)
    pools = [gcnn.SpatialPool(2, "mean"), nn.Identity(), gcnn.SpatialPool(3, "max")]
    blocks = []
    for convolution, width, pool in zip(layers, SMALL["hidden_channels"], pools):
        norms = gcnn.GroupBatchNorm(width, affine=False, eps=1e-2), gcnn.GroupBatchNorm(width)
        blocks.append(nn.Sequential(convolution, norms[0], nn.SiLU(), norms[1], pool))
    network.blocks = nn.Sequential(*blocks)
    assert_same_outputs(as_if_trained(network), (3, 2, 21, 22))


@pytest.mark.parametrize("mode", ["max", "mean"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_pooling_at_every_size(size, mode):
    layer = gcnn.SpatialPool(size, mode)
    for height, width in ((12, 13), (14, 15), (4, 7)):
        for shape in ((2, 3, height, width), (2, 3, 4, height, width)):
            x = torch.randn(shape)
            torch.testing.assert_close(AnySizePool(layer)(x), layer(x))


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [partial(E2CNN, group="d2", in_channels=2, norm="group", **SMALL), Skips]
)
def test_loads_where_only_torch_is_installed(tmp_path, make):
    network, images = as_if_trained(make()).eval(), torch.randn(2, 2, 12, 12)
    with torch.no_grad():
        torch.save((images, network(images)), tmp_path / "expected.pt")
    torch.export.save(torch.export.export(export(network), (images,)), tmp_path / "network.pt2")
    subprocess.run([sys.executable, "-I", "-c", LOAD_ALONE], cwd=tmp_path, check=True)
