import pytest
import torch
from torch import nn

from src.measures.batch_norm import given_statistics, reestimated_statistics, statistics_of
from tests.helpers.objectives import Snapshot


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(), nn.BatchNorm2d(3))


@pytest.mark.parametrize("inference", [False, True])
def test_statistics_are_means_over_batches(inference):
    """The same in every call, also where dropout comes before a norm."""
    net, batches = network(), list(torch.randn(3, 4, 1, 6, 6))
    net(torch.randn(4, 1, 6, 6))  # statistics of its own, to be restored
    net.eval()
    before = Snapshot(net)
    outputs = [net[0](batch) for batch in batches]
    means = torch.stack([x.mean((0, 2, 3)) for x in outputs])
    variances = torch.stack([x.var((0, 2, 3)) for x in outputs])
    with torch.inference_mode(inference), reestimated_statistics(net, batches):
        found = {name: buffer.clone() for name, buffer in statistics_of(net).items()}
        assert not net.training
    with reestimated_statistics(net, batches):
        assert all(map(torch.equal, found.values(), statistics_of(net).values()))
    torch.testing.assert_close(found["1.running_mean"], means.mean(0))
    torch.testing.assert_close(found["1.running_var"], variances.mean(0))
    before.assert_unchanged()


def test_given_statistics_end_also_where_the_network_was_moved_within():
    net = network().double()
    net(torch.randn(4, 1, 6, 6).double())
    before = net[1].running_mean.clone()
    with given_statistics(net, {"1.running_mean": torch.ones(3)}):
        assert (net[1].running_mean == 1).all()
        net.float().double()  # other tensors, as on the way to a device and back
    assert torch.equal(net[1].running_mean, before)


def test_what_needs_no_statistics_is_not_run():
    nothing = nn.Linear(2, 2)
    nothing.forward = lambda x: pytest.fail("run")
    with reestimated_statistics(nothing, [torch.ones(1, 2)]):
        pass
    net = network()
    before = Snapshot(net)
    with reestimated_statistics(net, []):
        before.assert_unchanged()
