import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.measures import Objective
from tests.helpers.objectives import (
    MODELS,
    Snapshot,
    bowl,
    configured_objective,
    make_data,
    make_network,
    make_objective,
)


def evaluated(network):
    return copy.deepcopy(network).eval()


def mean_loss(network, data):
    """One sample after the other."""
    losses = [
        F.cross_entropy(network(image[None]), label[None])
        for images, labels in data
        for image, label in zip(images, labels)
    ]
    return torch.stack(losses).mean()


def test_the_value_is_the_mean_over_samples_in_eval_mode():
    network = make_network()
    data = make_data(13, batch_size=5)
    expected = mean_loss(evaluated(network), data).item()
    assert Objective(network, nn.CrossEntropyLoss(), data).value() == pytest.approx(expected, 1e-13)


def test_the_value_of_forecasts_is_the_mean_over_windows_and_elements():
    network = make_network()[:3].double().eval()
    data = [(torch.randn(n, 1, 8, 8).double(), torch.randn(n, 4, 6, 6).double()) for n in (3, 1)]
    squares = torch.cat([(network(x) - y).square().detach() for x, y in data])
    value = Objective(network, nn.MSELoss(), data).value()
    assert value == pytest.approx(squares.mean().item(), rel=1e-13)


@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_the_batch_size_changes_nothing(batch_size):
    whole, parts = make_objective(), make_objective(batch_size=batch_size)
    assert len(parts.data) == {1: 13, 8: 2, 64: 1}[batch_size]
    assert parts.num_samples == whole.num_samples == 13
    assert parts.value() == pytest.approx(whole.value(), rel=1e-13)
    for name, gradient in whole.gradient().items():
        assert torch.allclose(parts.gradient()[name], gradient, rtol=1e-12, atol=1e-14)


def test_the_gradient_is_that_of_the_mean_loss():
    network = make_network()
    data = make_data(13, batch_size=5)
    twin = evaluated(network)
    mean_loss(twin, data).backward()
    gradient = Objective(network, nn.CrossEntropyLoss(), data).gradient()
    assert list(gradient) == [name for name, _ in network.named_parameters()]
    for name, parameter in twin.named_parameters():
        assert torch.allclose(gradient[name], parameter.grad, rtol=1e-11, atol=1e-14)


def test_the_gradient_is_there_within_inference_mode_too():
    """As in the validation loop of a trainer, where the batches are made in that mode."""
    network = make_network()
    expected = make_objective(network).gradient()
    with torch.inference_mode():
        gradient = make_objective(network).gradient()
    assert all(torch.equal(gradient[name], expected[name]) for name in expected)


def test_a_weight_that_the_loss_does_not_depend_on_has_the_gradient_zero():
    network = make_network()
    network.unused = nn.Linear(2, 2)
    network.forward = lambda x: nn.Sequential.forward(network[:7], x)
    gradient = make_objective(network).gradient()
    assert torch.equal(gradient["unused.weight"], torch.zeros(2, 2))


def test_weights_are_the_trainable_parameters():
    network = make_network()
    network[0].requires_grad_(False)
    objective = make_objective(network)
    names = ["1.weight", "1.bias", "3.weight", "3.bias", "6.weight", "6.bias"]
    assert list(objective.weights()) == names
    assert list(objective.gradient()) == names
    assert objective.weights()["6.bias"].data_ptr() == network[6].bias.data_ptr()
    assert not any(w.requires_grad for w in objective.weights().values())


def test_the_value_at_other_weights_and_buffers():
    network, other = make_network(), make_network()
    with torch.no_grad():
        other[3].weight.mul_(2)
        other[1].running_mean.add_(0.3)
    objective = make_objective(network)
    expected = make_objective(other).value()
    assert objective.value(other.state_dict()) == expected != objective.value()
    parts = {"3.weight": other[3].weight, "1.running_mean": other[1].running_mean}
    assert objective.value(parts) == expected


def test_gradients_are_never_recorded_by_the_value():
    objective = make_objective()
    state = {name: w.requires_grad_() for name, w in objective.weights().items()}
    assert isinstance(objective.value(state), float)


@pytest.mark.parametrize("grad_mode", [True, False])
def test_nothing_changes_in_the_network(grad_mode):
    network = make_network()
    network[3].eval()  # modes may differ
    before = Snapshot(network)
    objective = make_objective(network)
    with torch.set_grad_enabled(grad_mode):
        objective.value()
        objective.value({name: 2 * w for name, w in objective.weights().items()})
        objective.gradient()
        assert torch.is_grad_enabled() == grad_mode
    before.assert_unchanged()


def test_a_compiled_network_is_measured_as_written():
    network = make_network()
    expected = make_objective(network)
    calls = []

    def backend(graph, inputs):
        calls.append(graph)
        return graph.forward

    compiled = make_network()
    compiled.compile(backend=backend)
    compiled[0].compile(backend=backend)
    objective = make_objective(compiled)
    assert objective.value() == expected.value()
    assert all(map(torch.equal, objective.gradient().values(), expected.gradient().values()))
    assert not calls
    compiled(make_data()[0][0])
    assert calls


@pytest.mark.parametrize("model", MODELS)
def test_every_network_has_a_gradient_that_points_uphill(model):
    objective = configured_objective(model)
    before = Snapshot(objective.network)
    gradient = objective.gradient()
    squared = sum(g.square().sum().item() for g in gradient.values())
    step = 1e-4 * objective.value() / squared
    uphill = {name: w + step * gradient[name] for name, w in objective.weights().items()}
    downhill = {name: w - step * gradient[name] for name, w in objective.weights().items()}
    slope = (objective.value(uphill) - objective.value(downhill)) / (2 * step * squared)
    assert slope == pytest.approx(1, abs=0.05)
    before.assert_unchanged()


@pytest.mark.parametrize("data", [[], [(torch.zeros(0, 1), torch.zeros(0))]])
def test_no_sample(data):
    with pytest.raises(ValueError, match=r"at least one sample; got none\. Pass a list of batches"):
        Objective(make_network(), nn.CrossEntropyLoss(), data)


def test_no_trainable_parameter():
    network = make_network().requires_grad_(False)
    with pytest.raises(ValueError, match=r"Sequential has none\. Set `requires_grad`"):
        make_objective(network)


def test_a_bowl_has_its_closed_form():
    objective = bowl([1.0, -2.0], [3.0, 0.5])
    assert objective.value() == 2.5
    assert torch.equal(objective.gradient()["w"], torch.tensor([3.0, -1.0]).double())
