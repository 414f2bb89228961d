import pytest
import torch

from src.measures import equivariance_error
from src.models.components.forecasters import (
    CNNForecaster,
    GCNNForecaster,
    RelaxedGCNNForecaster,
    RelaxedTranslationForecaster,
)
from tests.helpers.equivariance import act, assert_equivariant
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

GROUP_NETWORKS = [GCNNForecaster, RelaxedGCNNForecaster]
SMALL = {"num_inputs": 2, "hidden_channels": 3}


def relaxed_translation(grid_size=(10, 10), **options):
    return RelaxedTranslationForecaster(grid_size=grid_size, **options)


NETWORKS = [CNNForecaster, relaxed_translation, *GROUP_NETWORKS]
every_network = pytest.mark.parametrize("network", NETWORKS)
every_group_network = pytest.mark.parametrize("network", GROUP_NETWORKS)


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
@every_group_network
def test_vectors_turn_with_the_frames_at_the_start(network, group, norm, residual):
    options = {"group": group, "norm": norm, "residual": residual}
    assert_equivariant(network(**SMALL, **options).eval(), frames(), group, "vector", "vector")


@every_group_network
def test_vectors_turn_with_the_frames_in_double_precision(network):
    net = network(**SMALL).double()
    assert_equivariant(net, frames(dtype=torch.float64), "c4", "vector", "vector")


def test_group_biases_start_equivariant():
    net = RelaxedGCNNForecaster(**SMALL, group_biases=True, norm="batch").eval()
    assert_equivariant(net, frames(), "c4", "vector", "vector")


@pytest.mark.parametrize("network", [CNNForecaster, relaxed_translation])
def test_networks_without_a_group_are_not_equivariant_to_turns(network):
    net = network(**SMALL, residual=False)
    error = equivariance_error(net, [frames()], "c4", input="vector", output="vector")
    assert error > 0.1


def test_pictures_turned_without_their_vectors_do_not_give_turned_forecasts():
    net = GCNNForecaster(**SMALL, residual=False)
    error = equivariance_error(net, [frames()], "c4", input="scalar", output="scalar")
    assert error > 0.1


@pytest.mark.parametrize("network", [CNNForecaster, relaxed_translation])
def test_equivariant_to_translation_away_from_the_walls(network):
    """An output within 3 pixels of a wall sees padding; a shift by (2, 1) brings 2 more in."""
    grid = {} if network is CNNForecaster else {"grid_size": (16, 16)}
    net, x = network(**SMALL, num_layers=3, residual=False, **grid), frames(size=16)
    with torch.no_grad():
        shifted = net(x.roll((2, 1), (-2, -1)))
        expected = net(x).roll((2, 1), (-2, -1))
    inside = (..., slice(5, -3), slice(4, -3))
    torch.testing.assert_close(shifted[inside], expected[inside], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(shifted, expected, rtol=1e-2)


def test_relaxed_networks_can_leave_the_symmetry():
    net = RelaxedGCNNForecaster(**SMALL, residual=False)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("relaxed_weights"):
                parameter.add_(torch.randn_like(parameter))
    assert equivariance_error(net, [frames()], "c4", input="vector", output="vector") > 0.1


@every_network
def test_measures(network):
    assert_measures_work(network(**SMALL))


@every_network
def test_starts_near_the_last_frame(network):
    net = network(num_inputs=2, hidden_channels=8)
    assert_starts_near_the_last_frame(net)


@pytest.mark.parametrize("norm", ["none", "batch"])
@every_network
def test_gradients_reach_all_parameters(network, norm):
    assert_gradients_reach_all_parameters(network(**SMALL, norm=norm))


@every_network
def test_learns(network):
    assert_learns(lambda: network(**SMALL))


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("norm", ["none", "batch"])
@every_network
def test_equal_number_of_parameters(network, norm, kernel_size):
    net = network(num_parameters=40_000, norm=norm, kernel_size=kernel_size)
    assert num_parameters(net) == pytest.approx(40_000, rel=0.03)


@pytest.mark.parametrize("group", ["c1", "c3", "c8", "d4"])
@every_group_network
def test_equal_number_of_parameters_for_any_group(network, group):
    net = network(group=group, num_parameters=40_000)
    assert num_parameters(net) == pytest.approx(40_000, rel=0.03)


@pytest.mark.parametrize("norm", ["none", "batch"])
@every_network
def test_the_counted_number_of_parameters_is_the_real_one(monkeypatch, network, norm):
    assert_counts_exactly(monkeypatch, lambda: network(num_inputs=3, norm=norm))


def test_act_turns_vectors_as_the_design_says():
    """The helper that the tests above rest on: element 1 takes (v0, v1) to (v1, -v0)."""
    x = frames()[:, :2]
    turned = torch.rot90(x, 1, (-2, -1))
    expected = torch.stack([turned[:, 1], -turned[:, 0]], 1)
    assert torch.equal(act(x, "c4", 1, "vector"), expected)


@every_network
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "`kernel_size` must be odd.*got 4. Use 3 or 5"),
        ({"num_layers": 2}, "`num_layers` must be an integer of at least 3; got 2"),
        ({"norm": "instance"}, "`norm` must be one of none, batch; got 'instance'"),
        ({"num_parameters": 50}, "must be met within 3%; widths .* Ask for more"),
    ],
)
def test_bad_arguments(network, options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)


@every_group_network
def test_unknown_group(network):
    with pytest.raises(ValueError, match="`group` must be 'cN'"):
        network(group="so2")


@pytest.mark.parametrize("network", [RelaxedGCNNForecaster, relaxed_translation])
def test_zero_banks(network):
    with pytest.raises(ValueError, match="`num_filter_banks` must be an integer of at least 1"):
        network(num_filter_banks=0)


@every_network
def test_wrong_input(network):
    with pytest.raises(ValueError, match=r"must have the shape \[B, 4, H, W\] \(2 frames"):
        network(**SMALL)(torch.randn(2, 3, 10, 10))


def test_frames_of_another_size_than_the_maps():
    with pytest.raises(ValueError, match=r"10.*got .*12"):
        relaxed_translation(**SMALL)(torch.randn(2, 4, 12, 12))
