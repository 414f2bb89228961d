import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import nn

from src.models.components import gcnn
from src.models.components.classifiers import CNN, GCNN, Classifier, RelaxedGCNN
from src.models.components.e2cnn import E2CNN, E2Conv, RelaxedSteerableConv
from src.models.components.export import export
from src.models.components.gcnn.relaxation import set_relaxation

SMALL = {"hidden_channels": [2, 3, 2], "num_layers": 3, "pool_after": [2], "num_classes": 4}

LOAD_ALONE = """
import importlib.util, sys, torch
assert importlib.util.find_spec("src") is None
images, logits = torch.load("expected.pt")
network = torch.load("network.pt", weights_only=False)
program = torch.export.load("network.pt2").module()
with torch.no_grad():
    for run in (network, program):
        torch.testing.assert_close(run(images), logits, rtol=1e-5, atol=1e-5)
assert not [name for name in sys.modules if name.split(".")[0] in ("src", "e2cnn")]
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
    assert not any(m.training for m in plain.modules())
    assert all(type(module).__module__.startswith("torch") for module in plain.modules())
    return plain


def other_classifier(**options):
    def make_conv(i, o, is_first):
        return nn.Conv2d(i, o, 3, padding=1)

    return Classifier(make_conv, nn.BatchNorm2d, nn.AvgPool2d, **options)


def batch_statistics(**options):
    network = CNN(**options)
    network.blocks[1][1] = nn.BatchNorm2d(3, track_running_stats=False)
    return network


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (CNN, {}),
        (batch_statistics, {}),
        (other_classifier, {}),
        (GCNN, {"group": "c1"}),
        (GCNN, {"group": "d4", "group_pool": "mean"}),
        (RelaxedGCNN, {"group": "c8", "num_filter_banks": 3, "kernel_size": 5}),
        (RelaxedGCNN, {"group": "d2", "interpolation": "harmonic", "kernel_size": 1}),
        (E2CNN, {"group": "c3", "group_pool": "mean"}),
        (E2CNN, {"group": "d1"}),
    ],
)
def test_networks(network, options):
    network = as_if_trained(network(in_channels=2, dropout=0.5, **options, **SMALL))
    assert_same_outputs(network, (3, 2, 9, 14))
    assert_same_outputs(network.double(), (3, 2, 9, 14))


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


@pytest.mark.slow
def test_loads_where_only_torch_is_installed(tmp_path):
    network = as_if_trained(E2CNN(group="d2", **SMALL)).eval()
    plain, images = export(network), torch.randn(2, 1, 12, 12)
    with torch.no_grad():
        torch.save((images, network(images)), tmp_path / "expected.pt")
    torch.save(plain, tmp_path / "network.pt")
    torch.export.save(torch.export.export(plain, (images,)), tmp_path / "network.pt2")
    subprocess.run([sys.executable, "-I", "-c", LOAD_ALONE], cwd=tmp_path, check=True)


class OtherForward(GCNN):
    def forward(self, x):
        return 2 * super().forward(x)


class OtherPool(GCNN):
    def pool(self, features):
        return features.amax((2, 3, 4))


@pytest.mark.parametrize("network", [nn.Linear(2, 2), OtherForward(**SMALL), OtherPool(**SMALL)])
def test_networks_that_compute_something_else(network):
    name = type(network).__name__
    message = f"`network` must be a Classifier .* keeps their `forward` and `pool`; got {name}"
    with pytest.raises(TypeError, match=message):
        export(network)


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class Custom(nn.Linear):
    pass


@pytest.mark.parametrize(
    ("place", "layer", "error", "message"),
    [
        ("blocks.1.1", nn.GroupNorm(1, 3), TypeError, "got GroupNorm at `{place}.*add its plain"),
        ("blocks.1.2", nn.Sequential(Residual(nn.ELU())), TypeError, "got Residual at `{place}"),
        ("group_pool", nn.Flatten(1, 2), TypeError, "got Flatten at `{place}"),
        ("head", Custom(2, 4), TypeError, "got Custom at `{place}"),
        (
            "blocks.1.1",
            gcnn.GroupBatchNorm(3, track_running_stats=False),
            ValueError,
            "must keep running statistics.*got track_running_stats=False at `{place}`",
        ),
    ],
)
def test_layers_without_a_plain_form(place, layer, error, message):
    network = GCNN(**SMALL)
    network.set_submodule(place, layer)
    with pytest.raises(error, match=message.format(place=place)):
        export(network)
