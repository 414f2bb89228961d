import pytest
import torch
from torch import nn

from src.measures import relaxed_weight_error, relaxed_weight_errors
from src.models.components import gcnn
from src.models.components.e2cnn import RelaxedSteerableConv
from src.models.components.gcnn.relaxation import relaxation_penalty
from src.models.components.translation import RelaxedTranslationConv

WEIGHTS = torch.tensor([[1.0, 2.0, -1.0, 0.5], [3.0, 3.0, 3.0, 2.0]])


def make_network(*weights):
    """Two relaxed layers, with these relaxed weights of their two banks."""
    first = gcnn.RelaxedLiftingConv(1, 2, 3, "c4", num_filter_banks=2)
    second = gcnn.RelaxedGroupConv(2, 2, 3, "c4", num_filter_banks=2)
    for layer, own in zip((first, second), weights):
        layer.relaxed_weights.data.copy_(own)
    return nn.Sequential(first, nn.ReLU(), second).double()


def sum_of_differences(weights):
    """The slow twin: a loop over banks and pairs of elements."""
    return sum(abs(g - h) for bank in weights.tolist() for g in bank for h in bank)


@pytest.mark.parametrize("scale", [1.0, 1e-5, -7.0])
def test_penalty_and_error_equal_the_loops_whatever_the_scale(scale):
    """The penalty is linear in the weights, not squared; the error does not see their scale."""
    both = (WEIGHTS, WEIGHTS.flip(1) * 0.3 + 1)
    network = make_network(*(scale * weights for weights in both))
    for layer, weights in zip((network[0], network[2]), both):
        error = sum_of_differences(weights) / (2 * 4 * 4) / weights.abs().mean().item()
        assert relaxed_weight_error(layer).item() == pytest.approx(error, rel=1e-6)
    penalty = abs(scale) * sum(map(sum_of_differences, both))
    assert relaxation_penalty(network).item() == pytest.approx(penalty, rel=1e-6)


def test_values_by_hand():
    network = make_network(torch.tensor([[1.0, 1.0, 1.0, 3.0]] * 2))
    # of each bank six ordered pairs differ, each by 2
    assert relaxation_penalty(network).item() == 24
    assert relaxation_penalty(nn.Sequential(network[0], network[0])).item() == 24  # counts once
    # mean difference 12 / 16 over a mean weight of 6 / 4
    assert relaxed_weight_error(network[0]).item() == 0.5
    assert relaxed_weight_error(network).item() == 0.25  # mean over a broken and a strict layer
    errors = relaxed_weight_errors(network)
    assert {name: e.item() for name, e in errors.items()} == {"0": 0.5, "2": 0.0}


@pytest.mark.parametrize(
    "weights", [torch.full((2, 4), v) for v in (1.0, 0.0, 1e30)] + [torch.tensor([[1.0], [-5.0]])]
)
def test_equal_weights_are_strict_whatever_their_value(weights):
    """Banks may differ, elements may not; a new network is strict."""
    for network in (make_network(), make_network(weights.expand(2, 4), weights.expand(2, 4))):
        assert relaxation_penalty(network) == relaxed_weight_error(network) == 0
    if weights.abs().max() == 1:
        network[2].relaxed_weights.data[1, 2] += 1e-6
        errors = relaxed_weight_errors(network)
        assert errors["0"] == 0 < errors["2"]


def test_gradient_of_the_penalty():
    network = make_network(torch.tensor([[4.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 2.0]]))
    (0.1 * relaxation_penalty(network)).backward()
    # each ordered pair (g, h) adds sign(w(g) - w(h)) twice over; equal weights add nothing
    signs = [[6.0, -6.0, -2.0, 2.0], [-2.0, -2.0, -2.0, 6.0]]
    expected = 0.1 * torch.tensor(signs, dtype=torch.float64)
    torch.testing.assert_close(network[0].relaxed_weights.grad, expected)
    assert not network[2].relaxed_weights.grad.any()
    assert network[0].weight.grad is None


def test_networks_without_relaxed_layers():
    network = nn.Sequential(gcnn.LiftingConv(1, 2, 3, "c4")).double()
    penalty = relaxation_penalty(network)
    assert (penalty.item(), penalty.dtype, penalty.shape) == (0.0, torch.float64, ())
    assert relaxation_penalty(nn.ReLU()).item() == 0.0
    assert relaxed_weight_errors(network) == {}
    with pytest.raises(ValueError, match=r"needs a relaxed layer; got Sequential without any"):
        relaxed_weight_error(network)


def test_group_biases_count_too():
    layer = gcnn.RelaxedLiftingConv(1, 2, 3, "c4", group_biases=True).double()
    layer.group_biases.data.copy_(torch.tensor([[1.0], [-5.0]]).expand(2, 4))
    assert relaxation_penalty(layer) == relaxed_weight_error(layer) == 0
    layer.relaxed_weights.data.fill_(2.0)
    layer.group_biases.data[1, 2] = -2.0
    # six ordered pairs of that channel differ, each by 3
    assert relaxation_penalty(layer).item() == 18
    # mean difference 18 / 32 over a mean weight of 2
    assert relaxed_weight_error(layer).item() == 18 / 32 / 2
    relaxation_penalty(layer).backward()
    assert layer.group_biases.grad[1].tolist() == [-2.0, -2.0, 6.0, -2.0]


def test_every_kind_of_relaxed_layer_adds_its_own():
    layers = [
        gcnn.RelaxedLiftingConv(2, 2, 3, "c4", in_type="vector"),
        gcnn.RelaxedVectorReadout(2, 1, 3, "c4", num_filter_banks=2),
        RelaxedTranslationConv(2, 2, 3, (4, 5)),
        RelaxedSteerableConv(1, 1, 3, "c4"),
    ]
    network = nn.Sequential(*layers, nn.Conv2d(1, 1, 3))
    assert relaxation_penalty(network) == relaxed_weight_error(network) == 0
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    penalties = [layer.relaxation_penalty() for layer in layers]
    errors = [layer.relaxed_weight_error() for layer in layers]
    assert min(penalties + errors) > 0
    torch.testing.assert_close(relaxation_penalty(network), sum(penalties))
    assert list(relaxed_weight_errors(network)) == ["0", "1", "2", "3"]
    torch.testing.assert_close(relaxed_weight_error(network), torch.stack(errors).mean())
