import pytest
import torch
from torch import nn

from src.models.components.forecaster import Forecaster, GroupForecaster
from src.models.components.gcnn import GroupBatchNorm, GroupConv, LiftingConv
from src.models.components.gcnn.readout.rotation import VectorReadout
from tests.helpers.forecasts import assert_counts_exactly, num_parameters


class Oracle(nn.Module):
    """A layer with a known number of parameters, which gives ones."""

    def __init__(self, in_channels, out_channels, place):
        super().__init__()
        size = {"first": 11, "hidden": 7, "last": 5}[place] * in_channels * out_channels
        self.in_channels, self.out_channels = in_channels, out_channels
        self.weight = nn.Parameter(torch.ones(size + 3 * in_channels + 2 * out_channels + 13))
        self.other = nn.Parameter(torch.ones(1))
        self.num_outputs = 2 if place == "last" else out_channels

    def forward(self, x):
        return self.weight.mean() * x.new_ones(len(x), self.num_outputs, *x.shape[2:])


def make_network(**options):
    return Forecaster(Oracle, nn.BatchNorm2d, **options)


def make_group_network(**options):
    def make_conv(i, o, place):
        if place == "last":
            return VectorReadout(i, o, 3, "c4")
        if place == "first":
            return LiftingConv(i, o, 3, "c4", in_type="vector")
        return GroupConv(i, o, 3, "c4")

    return GroupForecaster(make_conv, group="c4", **options)


def widths(network):
    return [block[0].out_channels for block in network.blocks]


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_counted_number_of_parameters_is_the_real_one(monkeypatch, norm):
    assert_counts_exactly(monkeypatch, lambda: make_network(norm=norm, num_inputs=3))


@pytest.mark.parametrize("target", [2_000, 20_000, 1_000_000])
def test_equal_number_of_parameters(target):
    network = make_network(num_parameters=target, norm="batch")
    assert num_parameters(network) == pytest.approx(target, rel=0.03)


def test_proportions_are_kept():
    network = make_network(num_parameters=100_000, hidden_channels=[1, 2, 2, 4])
    assert widths(network)[3] / widths(network)[0] == pytest.approx(4, rel=0.1)


def test_channels():
    network = make_network(num_inputs=3, hidden_channels=[2, 5, 4, 6])
    assert [block[0].in_channels for block in network.blocks] == [3, 2, 5, 4]
    assert widths(network) == [2, 5, 4, 6]
    assert (network.readout.in_channels, network.readout.out_channels) == (6, 1)


def test_the_number_of_layers_counts_the_readout():
    network = make_network(num_layers=4)
    assert len(network.blocks) == 3
    assert sum(isinstance(m, Oracle) for m in network.modules()) == 4


def test_a_residual_network_adds_a_tenth_to_the_last_frame():
    """The oracle gives ones, times the mean of its weight."""
    x = torch.randn(2, 6, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(make_network(num_inputs=3)(x), x[:, 4:] + 0.1)
        plain = make_network(num_inputs=3, residual=False)
        torch.testing.assert_close(plain(x), torch.ones(2, 2, 4, 4))


def test_only_what_the_output_is_linear_in_starts_small():
    readout = make_network().readout
    assert readout.weight.mean().item() == pytest.approx(0.1)
    assert readout.other.item() == 1


def test_the_input_is_not_written_to():
    network, x = make_group_network(num_inputs=2), torch.randn(2, 4, 6, 6)
    before = x.clone()
    network(x).sum().backward()
    assert torch.equal(x, before)


@pytest.mark.parametrize(("norm", "count"), [("none", 0), ("batch", 4)])
def test_norms(norm, count):
    network = make_group_network(norm=norm)
    assert sum(isinstance(m, GroupBatchNorm) for m in network.modules()) == count
    assert sum(isinstance(m, nn.ELU) for m in network.modules()) == 4


def test_group():
    assert make_group_network().group.name == "c4"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_inputs": 0}, "`num_inputs` must be an integer of at least 1; got 0"),
        ({"num_layers": 2}, "`num_layers` must be an integer of at least 3; got 2"),
        ({"norm": "layer"}, "`norm` must be one of none, batch; got 'layer'"),
        ({"hidden_channels": 0}, "`hidden_channels` must be an integer of at least 1"),
        ({"hidden_channels": [4] * 5}, "one per layer but the last.*got 5 for 5 layers. Give 4"),
        ({"num_parameters": 0}, "`num_parameters` must be an integer of at least 1"),
        ({"num_parameters": 100}, "must be met within 3%; widths .* Ask for more"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        make_network(**options)


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (6, 8, 8), (2, 3, 2, 8, 8)])
def test_wrong_input(shape):
    with pytest.raises(ValueError, match=r"shape \[B, 6, H, W\] \(3 frames.*got .*`num_inputs`"):
        make_network(num_inputs=3)(torch.randn(shape))
