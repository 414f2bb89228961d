import time

import pytest
import torch

from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.e2cnn import E2CNN

GROUP_NETWORKS = [GCNN, RelaxedGCNN, E2CNN]
NETWORKS = [CNN, *GROUP_NETWORKS]
GROUPS = ["c1", "c3", "c4", "c8", "c16", "d1", "d4", "d8"]


def num_parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_logits(network):
    net = network(
        num_layers=3, hidden_channels=[2, 3, 4], num_classes=7, in_channels=2, pool_after=[1]
    )
    assert net(torch.randn(5, 2, 12, 12)).shape == (5, 7)
    assert len(net.blocks) == 3


@pytest.mark.parametrize("group", ["c4", "d4", "c8"])
@pytest.mark.parametrize("network", GROUP_NETWORKS)
def test_logits_are_invariant_to_exact_elements_at_the_start(network, group):
    net = network(group=group, hidden_channels=3, num_layers=3, pool_after=[2]).eval()
    x = torch.randn(3, 1, 28, 28)
    turned = [torch.rot90(x, a, (-2, -1)) for a in range(4)]
    if group == "d4":
        turned += [t.flip(-1) for t in turned]
    with torch.no_grad():
        y = net(x)
        for t in turned:
            assert (net(t) - y).norm() < 1e-5 * y.norm()


def test_cnn_is_not_invariant():
    net, x = CNN(hidden_channels=4).eval(), torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        assert (net(x.rot90(1, (-2, -1))) - net(x)).norm() > 1e-3 * net(x).norm()


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("network", GROUP_NETWORKS)
def test_equal_number_of_parameters_for_any_group(network, group, kernel_size):
    net = network(group=group, kernel_size=kernel_size, num_parameters=58_000)
    assert num_parameters(net) == pytest.approx(58_000, rel=0.03)


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_equal_number_of_parameters_of_the_cnn(kernel_size):
    net = CNN(kernel_size=kernel_size, num_parameters=58_000)
    assert num_parameters(net) == pytest.approx(58_000, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_builds_in_under_a_second(network):
    start = time.process_time()
    network(num_parameters=58_000)
    assert time.process_time() - start < 1


def test_proportions_are_kept():
    net = GCNN(num_parameters=100_000, hidden_channels=[1, 1, 2, 2, 4, 4])
    widths = [block[0].out_channels for block in net.blocks]
    assert widths[5] / widths[0] == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 1}, "`num_layers` must be an integer of at least 2; got 1"),
        ({"kernel_size": 4}, "`kernel_size` must be odd.*got 4. Use 3 or 5"),
        ({"in_channels": 0}, "`in_channels` must be an integer of at least 1"),
        ({"num_classes": 0}, "`num_classes` must be an integer of at least 1"),
        ({"hidden_channels": 0}, "`hidden_channels` must be an integer of at least 1"),
        ({"hidden_channels": [1, 2]}, "one number or one per layer; got 2 for 6 layers"),
        ({"num_parameters": 0}, "`num_parameters` must be an integer of at least 1"),
        ({"num_parameters": 50}, "must be met within 3%; widths .* Ask for more"),
        ({"pool_after": [7]}, "`pool_after` must hold numbers of layers, 1 to 6; got 7"),
        ({"dropout": 1.0}, "`dropout` must be at least 0 and below 1; got 1.0"),
    ],
)
def test_bad_arguments(network, options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)


@pytest.mark.parametrize("network", GROUP_NETWORKS)
def test_unknown_group(network):
    with pytest.raises(ValueError, match="`group` must be 'cN'"):
        network(group="so2")


def test_zero_banks():
    with pytest.raises(ValueError, match="`num_filter_banks` must be an integer of at least 1"):
        RelaxedGCNN(num_filter_banks=0)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 28, 28)])
def test_wrong_input(network, shape):
    with pytest.raises(ValueError, match=r"must have the shape \[B, 1, H, W\]; got"):
        network(num_layers=2, hidden_channels=2, pool_after=[])(torch.randn(shape))
