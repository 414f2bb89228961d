"""Theta as a parameter of each layer: what it does, and what renormalisation keeps."""

import copy

import pytest
import torch
from torch import nn

from src.models.components.classifiers import RelaxedGCNN
from src.models.components.gcnn import GroupConv, kernels_built_once
from src.models.components.gcnn.learned import learn_relaxations, renormalise
from src.models.components.gcnn.relaxation import relaxations, relaxed_by, relaxed_layers
from tests.helpers.equivariance import equivariance_error
from tests.helpers.layer_cases import FREE, RELAXABLE, make_input, make_layer, randomize

every_layer = pytest.mark.parametrize("name", [*RELAXABLE, *FREE])


def learned(name, theta=None):
    """A layer that learns theta, all parameters far from their start."""
    layer = make_layer(name)
    learn_relaxations(layer)
    assert layer.relaxation == 1
    randomize(layer)
    if theta is not None:
        nn.init.constant_(layer.relaxation, theta)
    return layer


@every_layer
def test_a_learned_theta_is_the_fixed_one_and_its_gradient_that_of_the_formula(
    double_precision, name
):
    """f_eq + theta f_free, also below 0; a layer's output is linear in what it expands to."""
    x = make_input(make_layer(name))
    for theta in (-0.7, 0.0, 0.4, 1.3):
        layer = learned(name, theta)
        with torch.no_grad(), relaxed_by(layer, 0.0):
            strict = layer(x)
        with torch.no_grad(), relaxed_by(layer, None):
            free = layer(x) - strict
        ours = layer(x)
        torch.testing.assert_close(ours, strict + theta * free)
        cotangent = torch.randn_like(ours)
        (gradient,) = torch.autograd.grad((ours * cotangent).sum(), layer.relaxation)
        torch.testing.assert_close(gradient, (free * cotangent).sum())


@every_layer
def test_it_is_a_parameter_that_is_stored_and_copied(name):
    layer = learned(name, 0.25)
    assert layer.state_dict()["relaxation"] == 0.25
    names = [n for n, _ in layer.named_parameters()]
    with relaxed_by(layer, 0.5), relaxed_by(layer, None):
        assert "relaxation" not in dict(layer.named_parameters())
    assert [n for n, _ in layer.named_parameters()] == names and names[-1] == "relaxation"
    twin = copy.deepcopy(layer).double()
    assert twin.relaxation == 0.25 and twin.relaxation.dtype == torch.float64
    assert twin.relaxation is not layer.relaxation


@every_layer
@pytest.mark.parametrize("once", [False, True])
def test_no_kernel_of_another_theta_is_used(double_precision, name, once):
    layer = learned(name).train(once)
    x = make_input(layer)
    with torch.set_grad_enabled(once), kernels_built_once(layer if once else nn.Identity()):
        outputs = []
        for theta in (1.0, 0.5, -0.5):
            layer.relaxation.data.fill_(theta)
            outputs.append(layer(x).detach())
        torch.testing.assert_close(outputs[1] - outputs[0], (outputs[2] - outputs[1]) / 2)
        changed = torch.func.functional_call(layer, {"relaxation": torch.tensor(1.0)}, (x,))
        assert torch.equal(changed, outputs[0])


@every_layer
def test_theta_zero_is_strict_and_one_step_breaks_a_strict_layer(double_precision, name):
    if name == "translation":  # its symmetry has no group; it is strict where all maps are equal
        layer = learned(name, 0.0)
        assert layer.relaxed_weight_error() == 0
        return
    layer, new = learned(name, 0.0), make_layer(name)
    learn_relaxations(new)
    kinds = ("c4", layer.in_type, layer.out_type)
    x = make_input(layer)
    for strict in (layer, new):
        assert equivariance_error(strict, x, *kinds) < 1e-12
    optimizer = torch.optim.SGD(new.parameters(), lr=0.1)
    (new(x) * torch.randn_like(new(x))).sum().backward()
    optimizer.step()
    assert equivariance_error(new, x, *kinds) > 1e-3


def norms(layer):
    """Of all that theta moves, strict and free, from the expanded layer or the maps."""

    def everything():
        if not hasattr(layer, "expanded_kernel"):
            return layer.effective_weights().flatten()
        parts = layer.expanded_kernel(), layer.expanded_bias()
        return torch.cat([part.flatten() for part in parts if part is not None])

    with relaxed_by(layer, 0.0):
        strict = everything()
    with relaxed_by(layer, None):
        return strict.norm().item(), (everything() - strict).norm().item()


@every_layer
def test_renormalisation_moves_excess_into_theta_and_keeps_the_function(double_precision, name):
    for scale, theta in ((1e-3, 0.5), (30.0, -0.5)):
        layer = learned(name, theta)
        with torch.no_grad():
            for parameter, mean in layer.free_parameters():
                parameter.copy_(mean + scale * (parameter - mean))
        x, (strict, free) = make_input(layer), norms(layer)
        before, state = layer(x), copy.deepcopy(layer.state_dict())
        renormalise(layer)
        torch.testing.assert_close(layer(x), before)
        excess = max(1.0, free / strict)
        assert layer.relaxation.item() == pytest.approx(theta * excess)
        assert norms(layer) == pytest.approx((strict, free / excess))
        if scale < 1:
            assert excess == 1 and all(
                torch.equal(state[n], p) for n, p in layer.state_dict().items()
            )
        else:
            assert excess > 2


def test_a_layer_of_zeros_is_left_alone():
    layer = learned("relaxed group")
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    renormalise(layer)
    assert all(torch.equal(p, torch.zeros_like(p)) for p in layer.parameters())


@pytest.mark.parametrize("renormalised", [False, True])
def test_without_renormalisation_theta_shrinks_beside_a_departure_that_stays(renormalised):
    """A target that no strict layer has, and a price on |theta|: free weights can grow instead."""
    layer, target = make_layer("free group"), learned("free group", 1.0)
    learn_relaxations(layer)
    optimizer, x = torch.optim.Adam(layer.parameters(), lr=0.03), make_input(layer)
    for _ in range(400):
        loss = (layer(x) - target(x).detach()).square().mean() + 2 * layer.relaxation.abs()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if renormalised:
            renormalise(layer)
    strict, free = norms(layer)
    departure = abs(layer.relaxation.item()) * free / strict
    assert departure > 0.3
    if renormalised:
        assert departure <= abs(layer.relaxation.item()) * (1 + 1e-5)
    else:
        assert abs(layer.relaxation.item()) < 0.5 * departure


@pytest.mark.slow
def test_a_compiled_network_follows_theta_in_one_graph():
    torch.compiler.reset()
    net = RelaxedGCNN(num_classes=3, hidden_channels=2, num_layers=2, pool_after=[])
    learn_relaxations(net)
    for layer in relaxed_layers(net).values():
        randomize(layer)
    x, fast = torch.randn(2, 1, 8, 8), torch.compile(net, backend="eager", fullgraph=True)
    for theta in (1.0, -0.3):
        for layer in relaxed_layers(net).values():
            nn.init.constant_(layer.relaxation, theta)
        assert torch.allclose(fast(x), net(x), atol=1e-5)
        weights = list(net.parameters())
        ours, theirs = (torch.autograd.grad(f(x).square().sum(), weights) for f in (fast, net))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_network_without_relaxed_layers_has_nothing_to_learn():
    with pytest.raises(ValueError, match=r"needs a relaxed layer .*got Sequential without any"):
        learn_relaxations(nn.Sequential(GroupConv(1, 1, 3, "c4")))
    net = RelaxedGCNN(num_classes=3, hidden_channels=2, num_layers=2, pool_after=[])
    learn_relaxations(net)
    assert relaxations(net) == dict.fromkeys(relaxed_layers(net), 1.0)
