import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import nn

from src.models.components.classifier import Classifier
from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.e2cnn import E2CNN, E2Conv
from src.models.components.export import export
from src.models.components.gcnn import (
    GroupBatchNorm,
    GroupConv,
    LiftingConv,
    RelaxedGroupConv,
    RelaxedLiftingConv,
    SpatialPool,
)
from src.models.components.steerable import RelaxedSteerableConv

GROUPS = ["c1", "c2", "c3", "c4", "c8", "d1", "d4"]
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


def assert_same_outputs(network, plain=None, shape=(3, 1, 12, 12), tolerance=1e-5):
    plain = export(network) if plain is None else plain
    dtype = next(network.parameters()).dtype
    images = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = deepcopy(network).eval()(images)
        assert expected.std() > 1e-2
        difference = (plain(images) - expected).abs().max()
    assert difference <= tolerance * max(1, expected.abs().max())


def parts_from_elsewhere(plain):
    return [type(m).__name__ for m in plain.modules() if not type(m).__module__.startswith("torch")]


@pytest.mark.parametrize("group_pool", ["max", "mean"])
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("network", [GCNN, RelaxedGCNN, E2CNN])
def test_group_networks(network, group, group_pool):
    network = as_if_trained(network(group=group, group_pool=group_pool, dropout=0.5, **SMALL))
    plain = export(network)
    assert_same_outputs(network, plain)
    assert parts_from_elsewhere(plain) == []


@pytest.mark.parametrize("kernel_size", [1, 5])
@pytest.mark.parametrize("options", [{"group": "c4"}, {"group": "d2", "interpolation": "harmonic"}])
def test_kernels(options, kernel_size):
    options = {**SMALL, **options, "kernel_size": kernel_size}
    assert_same_outputs(as_if_trained(RelaxedGCNN(num_filter_banks=3, **options)))


def test_cnn():
    network = as_if_trained(CNN(in_channels=2, dropout=0.5, **SMALL))
    plain = export(network)
    assert_same_outputs(network, plain, (3, 2, 9, 14))
    assert parts_from_elsewhere(plain) == []


def test_double_precision():
    network = as_if_trained(RelaxedGCNN(group="c8", **SMALL).double())
    assert_same_outputs(network, tolerance=1e-12)


def test_layer_by_layer():
    plain = export(GCNN(group="c4", **SMALL))
    names = [type(layer).__name__ for layer in plain]
    block = ["Conv2d", "BatchNorm2d", "ELU"]
    assert names[:10] == [*block, *block, "MaxPool2d", *block]
    shapes = [(c.in_channels, c.out_channels) for c in plain if isinstance(c, nn.Conv2d)]
    assert shapes == [(1, 8), (8, 12), (12, 8)]
    assert not any(m.training for m in plain.modules())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("network", [CNN, RelaxedGCNN, E2CNN])
def test_the_network_stays_as_it_is(network, training):
    network = as_if_trained(network(**SMALL)).train(training)
    before, modes = deepcopy(network.state_dict()), [m.training for m in network.modules()]
    plain = export(network)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.zero_()
    plain.train()(torch.randn(2, 1, 12, 12))
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [m.training for m in network.modules()] == modes


def test_the_network_may_change_afterwards():
    network = as_if_trained(RelaxedGCNN(**SMALL))
    plain, images = export(network), torch.randn(2, 1, 12, 12)
    before = plain(images)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(plain(images), before)


def test_the_plain_network_trains():
    plain = export(as_if_trained(GCNN(**SMALL))).train()
    plain(torch.randn(2, 1, 12, 12)).square().sum().backward()
    assert all(p.requires_grad and p.grad.abs().sum() > 0 for p in plain.parameters())


def unusual_network(group="d2"):
    """Vectors, strides, paddings, biases, mean pooling, norms after activations."""
    network = GCNN(group=group, in_channels=2, **SMALL)
    convolutions = [
        LiftingConv(1, 2, 5, group, in_type="vector", padding="valid"),
        nn.Sequential(GroupConv(2, 3, 3, group, stride=2, padding=2), nn.Dropout3d(0.5)),
        GroupConv(3, 2, 3, group, bias=False),
    ]
    pools = [SpatialPool(2, "mean"), nn.Identity(), SpatialPool(3, "max")]
    network.blocks = nn.Sequential(
        *(
            nn.Sequential(
                convolution,
                GroupBatchNorm(channels, affine=False, eps=1e-2),
                nn.SiLU(),
                GroupBatchNorm(channels),
                pool,
            )
            for convolution, channels, pool in zip(convolutions, SMALL["hidden_channels"], pools)
        )
    )
    return network


def test_every_option_of_the_layers():
    network = as_if_trained(unusual_network())
    assert_same_outputs(network, shape=(3, 2, 21, 22))


BIASED = {
    "group biases": [
        RelaxedLiftingConv(1, 2, 3, "c4", group_biases=True),
        RelaxedGroupConv(2, 3, 3, "c4", bias=False, group_biases=True),
        RelaxedGroupConv(3, 2, 3, "c4"),
    ],
    "steerable": [
        E2Conv(1, 2, 3, "c4", "scalar", bias=True),
        RelaxedSteerableConv(2, 3, 3, "c4", bias=True),
        RelaxedSteerableConv(3, 2, 5, "c4"),
    ],
}


@pytest.mark.parametrize("layers", BIASED.values(), ids=BIASED)
def test_biases_and_relaxed_layers_of_every_kind(layers):
    network = GCNN(**SMALL)
    for block, layer in zip(network.blocks, deepcopy(layers)):
        block[0] = layer
    assert_same_outputs(as_if_trained(network))


def test_a_cnn_whose_norms_keep_no_statistics():
    network = CNN(**SMALL)
    network.blocks[1][1] = nn.BatchNorm2d(3, track_running_stats=False)
    assert_same_outputs(as_if_trained(network))


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
    ("place", "layer", "name"),
    [
        ("blocks.1.1", nn.GroupNorm(1, 3), "GroupNorm"),
        ("blocks.1.2", nn.Sequential(nn.ELU(), Residual(nn.ELU())), "Residual"),
        ("blocks.2", Residual(nn.ELU()), "Residual"),
        ("group_pool", nn.Flatten(1, 2), "Flatten"),
        ("head", Custom(2, 4), "Custom"),
    ],
)
def test_layers_without_a_plain_form(place, layer, name):
    network = GCNN(**SMALL)
    network.set_submodule(place, layer)
    with pytest.raises(TypeError, match=rf"got {name} at `{place}.*add its plain form"):
        export(network)


def test_a_norm_on_the_group_without_statistics():
    network = GCNN(**SMALL)
    network.blocks[1][1] = GroupBatchNorm(3, track_running_stats=False)
    message = "must keep running statistics.*got track_running_stats=False at `blocks.1.1`"
    with pytest.raises(ValueError, match=message):
        export(network)


def test_other_classifiers():
    def make_conv(i, o, is_first):
        return nn.Conv2d(i, o, 3, padding=1)

    network = Classifier(make_conv, nn.BatchNorm2d, nn.AvgPool2d, **SMALL)
    assert_same_outputs(as_if_trained(network))
