import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.measures import Objective
from tests.helpers.objectives import (
    MODELS,
    Snapshot,
    configured_objective,
    make_data,
    make_network,
    make_objective,
)


@pytest.mark.parametrize("batch_size", [1, 5, 13])
def test_value_and_gradient_are_those_of_the_mean_over_samples_in_eval_mode(batch_size):
    """One sample after the other; whatever the batches."""
    network, twin = make_network(), make_network().eval()
    samples = make_data(13, batch_size=1)
    expected = torch.stack([F.cross_entropy(twin(x), label) for x, label in samples]).mean()
    expected.backward()
    objective = make_objective(network, batch_size=batch_size)
    assert objective.num_samples == 13
    assert objective.value() == pytest.approx(expected.item(), rel=1e-13)
    gradient = objective.gradient()
    assert list(gradient) == [name for name, _ in network.named_parameters()]
    for name, parameter in twin.named_parameters():
        assert torch.allclose(gradient[name], parameter.grad, rtol=1e-11, atol=1e-14)


def test_the_value_of_forecasts_is_the_mean_over_windows_and_elements():
    network = make_network()[:3].double().eval()
    data = [(torch.randn(n, 1, 8, 8).double(), torch.randn(n, 4, 6, 6).double()) for n in (3, 1)]
    squares = torch.cat([(network(x) - y).square().detach() for x, y in data])
    value = Objective(network, nn.MSELoss(), data).value()
    assert value == pytest.approx(squares.mean().item(), rel=1e-13)


def test_weights_are_the_trainable_parameters():
    """Those that the loss does not depend on have the gradient zero."""
    network = make_network()
    network[0].requires_grad_(False)
    network.unused = nn.Linear(2, 2)
    network.forward = lambda x: nn.Sequential.forward(network[:7], x)
    objective = make_objective(network)
    names = [f"{layer}.{kind}" for layer in "136" for kind in ("weight", "bias")]
    names += ["unused.weight", "unused.bias"]
    assert list(objective.weights()) == list(objective.gradient()) == names
    assert not objective.gradient()["unused.weight"].any()
    assert objective.weights()["6.bias"].data_ptr() == network[6].bias.data_ptr()
    assert not any(w.requires_grad for w in objective.weights().values())


def test_the_value_at_other_weights_and_buffers():
    objective, other = make_objective(), make_network()
    other[3].weight.data.mul_(2)
    other[1].running_mean.add_(0.3)
    expected = make_objective(other).value()
    assert objective.value(other.state_dict()) == expected != objective.value()
    parts = {"3.weight": other[3].weight, "1.running_mean": other[1].running_mean}
    assert objective.value(parts) == expected


def test_the_gradient_at_other_weights_and_of_one_that_is_not_trained():
    objective, other = make_objective(), make_network()
    objective.network[3].weight.requires_grad_(False)
    other[3].weight.data.mul_(2)
    expected = make_objective(other).gradient()
    found = objective.gradient({"3.weight": other[3].weight})
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert objective.network[3].weight.grad is None


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_nothing_changes_in_the_network_whatever_the_mode(mode):
    """The batches are made in inference mode in the validation loop of a trainer."""
    expected, network = make_objective().gradient(), make_network()
    network[3].eval()  # modes may differ
    before = Snapshot(network)
    with mode():
        objective = make_objective(network)
        objective.value({name: 2 * w for name, w in objective.weights().items()})
        state = {name: w.clone().requires_grad_() for name, w in objective.weights().items()}
        assert objective.value(state) == objective.value()
        gradient = objective.gradient()
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    assert all(torch.equal(gradient[name], expected[name]) for name in expected)
    before.assert_unchanged()


@pytest.mark.parametrize("model", MODELS)
def test_every_network_has_a_gradient_that_points_uphill(model):
    objective = configured_objective(model)
    before, gradient = Snapshot(objective.network), objective.gradient()
    squared = sum(g.square().sum().item() for g in gradient.values())
    step = 1e-4 * objective.value() / squared
    up, down = (
        objective.value({n: w + sign * step * gradient[n] for n, w in objective.weights().items()})
        for sign in (1, -1)
    )
    assert (up - down) / (2 * step * squared) == pytest.approx(1, abs=0.05)
    before.assert_unchanged()


def test_a_sample_and_a_trainable_parameter_are_needed():
    for data in ([], [(torch.zeros(0, 1), torch.zeros(0))]):
        with pytest.raises(ValueError, match=r"at least one sample; got none\. Pass a list"):
            Objective(make_network(), nn.CrossEntropyLoss(), data)
    with pytest.raises(ValueError, match=r"Sequential has none\. Set `requires_grad`"):
        make_objective(make_network().requires_grad_(False))
