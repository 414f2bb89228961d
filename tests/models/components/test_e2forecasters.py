import pytest
import torch

from src.measures import equivariance_error
from src.models.components.e2forecasters import E2CNNForecaster, RelaxedSteerableForecaster
from tests.helpers.equivariance import assert_equivariant
from tests.helpers.forecasts import (
    assert_counts_exactly,
    assert_gradients_reach_all_parameters,
    assert_learns,
    assert_measures_work,
    assert_not_linear,
    assert_starts_near_the_last_frame,
    frames,
    num_parameters,
)

NETWORKS = [E2CNNForecaster, RelaxedSteerableForecaster]
SMALL = {"num_inputs": 2, "hidden_channels": 3}

every_network = pytest.mark.parametrize("network", NETWORKS)


@pytest.mark.parametrize("norm", ["none", "batch"])
@every_network
def test_shapes(network, norm):
    net = network(**SMALL, num_layers=4, norm=norm)
    assert net(frames(num=5)).shape == (5, 2, 10, 10)
    assert len(net.blocks) == 3


@every_network
def test_not_linear(network):
    assert_not_linear(network(**SMALL))


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("group", ["c4", "d4", "c8"])
@every_network
def test_vectors_turn_with_the_frames_at_the_start(network, group, norm, residual):
    options = {"group": group, "norm": norm, "residual": residual}
    assert_equivariant(network(**SMALL, **options).eval(), frames(), group, "vector", "vector")


@every_network
def test_vectors_turn_with_the_frames_in_double_precision(network):
    net = network(**SMALL).double()
    assert_equivariant(net, frames(dtype=torch.float64), "c4", "vector", "vector")


@pytest.mark.parametrize(("network", "leaves"), [*zip(NETWORKS, [False, True])])
def test_only_the_relaxed_network_can_leave_the_symmetry(network, leaves):
    net = network(**SMALL, residual=False)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    error = equivariance_error(net, [frames()], "c4", input="vector", output="vector")
    assert (error > 0.1) == leaves
    assert (error < 1e-5) != leaves


@every_network
def test_measures(network):
    assert_measures_work(network(**SMALL))


@every_network
def test_starts_near_the_last_frame(network):
    assert_starts_near_the_last_frame(network(num_inputs=2, hidden_channels=8))


@pytest.mark.parametrize("norm", ["none", "batch"])
@every_network
def test_gradients_reach_all_parameters(network, norm):
    assert_gradients_reach_all_parameters(network(**SMALL, norm=norm))


@every_network
def test_learns(network):
    assert_learns(lambda: network(**SMALL))


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("group", ["c1", "c3", "c4", "d4"])
@every_network
def test_equal_number_of_parameters_for_any_group(network, group, kernel_size):
    net = network(group=group, num_parameters=200_000, kernel_size=kernel_size)
    assert num_parameters(net) == pytest.approx(200_000, rel=0.03)


@pytest.mark.parametrize("norm", ["none", "batch"])
@every_network
def test_the_counted_number_of_parameters_is_the_real_one(monkeypatch, network, norm):
    assert_counts_exactly(monkeypatch, lambda: network(num_inputs=3, norm=norm))


@every_network
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "so2"}, "`group` must be 'cN'"),
        ({"kernel_size": 4}, "`kernel_size` must be odd.*got 4. Use 3 or 5"),
        ({"num_layers": 2}, "`num_layers` must be an integer of at least 3; got 2"),
        ({"norm": "instance"}, "`norm` must be one of none, batch; got 'instance'"),
        ({"num_parameters": 50}, "must be met within 3%; widths .* Ask for more"),
    ],
)
def test_bad_arguments(network, options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)


@every_network
def test_wrong_input(network):
    with pytest.raises(ValueError, match=r"must have the shape \[B, 4, H, W\] \(2 frames"):
        network(**SMALL)(torch.randn(2, 3, 10, 10))
