import pytest
import torch
from torch import nn

from src.measures import relaxed_weight_error, relaxed_weight_errors
from src.models.components.gcnn import (
    GroupConv,
    LiftingConv,
    RelaxedGroupConv,
    RelaxedLiftingConv,
    RelaxedVectorReadout,
)
from src.models.components.gcnn.relaxation import relaxation_penalty
from src.models.components.steerable import RelaxedSteerableConv
from src.models.components.translation import RelaxedTranslationConv

WEIGHTS = torch.tensor([[1.0, 2.0, -1.0, 0.5], [3.0, 3.0, 3.0, 2.0]])


def make_network(banks=2):
    network = nn.Sequential(
        RelaxedLiftingConv(1, 2, 3, "c4", num_filter_banks=banks),
        nn.ReLU(),
        RelaxedGroupConv(2, 2, 3, "c4", num_filter_banks=banks),
    )
    return network.double()


def set_weights(layer, weights):
    with torch.no_grad():
        layer.relaxed_weights.copy_(weights)


def sum_of_differences(weights):
    """The slow twin: a loop over banks and pairs of elements."""
    total = 0.0
    banks, order = weights.shape
    for bank in range(banks):
        for g in range(order):
            for h in range(order):
                total += abs(weights[bank, g].item() - weights[bank, h].item())
    return total


def test_penalty_and_error_equal_the_loops():
    network = make_network()
    first, second = WEIGHTS, WEIGHTS.flip(1) * 0.3 + 1
    set_weights(network[0], first)
    set_weights(network[2], second)
    penalty = sum_of_differences(first) + sum_of_differences(second)
    assert relaxation_penalty(network).item() == pytest.approx(penalty, rel=1e-6)
    for layer, weights in ((network[0], first), (network[2], second)):
        mean = sum_of_differences(weights) / (2 * 4 * 4)
        scale = sum(abs(w) for w in weights.flatten().tolist()) / 8
        assert relaxed_weight_error(layer).item() == pytest.approx(mean / scale, rel=1e-6)


def test_values_by_hand():
    network = make_network(banks=1)
    set_weights(network[0], torch.tensor([[1.0, 1.0, 1.0, 3.0]]))
    # six ordered pairs differ, each by 2
    assert relaxation_penalty(network).item() == 12
    # mean difference 12 / 16 over a mean weight of 6 / 4
    assert relaxed_weight_error(network[0]).item() == 0.5
    assert relaxed_weight_error(network).item() == 0.25  # mean over a broken and a strict layer
    errors = relaxed_weight_errors(network)
    assert {name: e.item() for name, e in errors.items()} == {"0": 0.5, "2": 0.0}


def test_new_layers_are_exactly_strict():
    network = make_network(banks=3)
    assert relaxation_penalty(network).item() == 0.0
    assert relaxed_weight_error(network).item() == 0.0


@pytest.mark.parametrize("value", [0.0, -2.0, 1e30])
def test_equal_weights_are_strict_whatever_their_value(value):
    network = make_network().float()
    for layer in (network[0], network[2]):
        set_weights(layer, torch.full((2, 4), value))
    assert relaxed_weight_error(network).item() == 0.0
    assert relaxation_penalty(network).item() == 0.0


def test_equal_elements_suffice_banks_may_differ():
    network = make_network()
    set_weights(network[0], torch.tensor([[1.0], [5.0]]).expand(2, 4))
    assert relaxed_weight_error(network).item() == 0.0


def test_moving_one_weight_is_seen():
    network = make_network()
    weights = torch.ones(2, 4)
    weights[1, 2] += 1e-6
    set_weights(network[2], weights)
    assert relaxed_weight_error(network).item() > 0
    assert relaxed_weight_errors(network)["0"].item() == 0
    assert relaxed_weight_errors(network)["2"].item() > 0


def test_penalty_is_linear_and_not_squared():
    network = make_network()
    set_weights(network[0], WEIGHTS)
    once = relaxation_penalty(network).item()
    set_weights(network[0], 1e-5 * WEIGHTS)
    assert relaxation_penalty(network).item() == pytest.approx(1e-5 * once, rel=1e-6)


def test_error_does_not_depend_on_scale():
    network = make_network()
    set_weights(network[0], WEIGHTS)
    error = relaxed_weight_error(network[0]).item()
    set_weights(network[0], -7 * WEIGHTS)
    assert relaxed_weight_error(network[0]).item() == pytest.approx(error, rel=1e-6)


def test_gradient_of_the_penalty():
    network = make_network()
    set_weights(network[0], torch.tensor([[4.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 2.0]]))
    (0.1 * relaxation_penalty(network)).backward()
    # each ordered pair (g, h) adds sign(w(g) - w(h)) twice over; equal weights add nothing
    signs = [[6.0, -6.0, -2.0, 2.0], [-2.0, -2.0, -2.0, 6.0]]
    expected = 0.1 * torch.tensor(signs, dtype=torch.float64)
    torch.testing.assert_close(network[0].relaxed_weights.grad, expected)
    torch.testing.assert_close(
        network[2].relaxed_weights.grad, torch.zeros(2, 4, dtype=torch.float64)
    )
    assert network[0].weight.grad is None


def test_penalty_of_a_network_without_relaxed_layers():
    network = nn.Sequential(LiftingConv(1, 2, 3, "c4"), GroupConv(2, 2, 3, "c4")).double()
    penalty = relaxation_penalty(network)
    assert penalty.item() == 0.0
    assert penalty.dtype == torch.float64
    assert penalty.shape == ()
    assert relaxation_penalty(nn.ReLU()).item() == 0.0
    assert relaxed_weight_errors(network) == {}


def test_error_of_a_network_without_relaxed_layers():
    with pytest.raises(ValueError, match=r"needs a relaxed layer .* got Linear without any"):
        relaxed_weight_error(nn.Linear(2, 2))


def test_shared_layers_count_once():
    layer = RelaxedGroupConv(2, 2, 3, "c4")
    set_weights(layer, torch.tensor([[1.0, 1.0, 1.0, 3.0]]))
    assert relaxation_penalty(nn.Sequential(layer, layer)).item() == 12


def test_group_biases_count_too():
    network = make_network(banks=1)
    network[0] = RelaxedLiftingConv(1, 2, 3, "c4", group_biases=True).double()
    assert relaxation_penalty(network).item() == 0
    with torch.no_grad():
        network[0].relaxed_weights.fill_(2.0)
        network[0].group_biases[1, 2] = 3.0
    # six ordered pairs of that channel differ, each by 3
    assert relaxation_penalty(network).item() == 18
    # mean difference 18 / 32 over a mean weight of 2
    assert relaxed_weight_error(network[0]).item() == 18 / 32 / 2
    relaxation_penalty(network).backward()
    assert network[0].group_biases.grad[1].tolist() == [-2.0, -2.0, 6.0, -2.0]


def test_group_biases_that_are_equal_are_strict():
    layer = RelaxedLiftingConv(1, 2, 3, "c4", group_biases=True)
    with torch.no_grad():
        layer.group_biases.copy_(torch.tensor([[1.0], [-5.0]]).expand(2, 4))
    assert relaxation_penalty(layer).item() == 0
    assert relaxed_weight_error(layer).item() == 0


def test_every_kind_of_relaxed_layer_adds_its_own():
    network = nn.ModuleList(
        [
            RelaxedLiftingConv(2, 2, 3, "c4", in_type="vector"),
            RelaxedVectorReadout(2, 1, 3, "c4", num_filter_banks=2),
            RelaxedTranslationConv(2, 2, 3, (4, 5)),
            RelaxedSteerableConv(1, 1, 3, "c4"),
            nn.Conv2d(1, 1, 3),
        ]
    )
    assert relaxation_penalty(network).item() == 0
    assert relaxed_weight_error(network).item() == 0
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    layers = list(network)[:4]
    penalties = [layer.relaxation_penalty() for layer in layers]
    errors = [layer.relaxed_weight_error() for layer in layers]
    assert all(value > 0 for value in penalties + errors)
    torch.testing.assert_close(relaxation_penalty(network), sum(penalties))
    assert list(relaxed_weight_errors(network)) == ["0", "1", "2", "3"]
    torch.testing.assert_close(relaxed_weight_error(network), torch.stack(errors).mean())
