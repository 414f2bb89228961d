"""Multipliers of learned thetas follow the update rule, and find what the data ask for."""

import pytest
import torch
from torch import nn

from src.callbacks import RelaxedWeights
from src.models.classification_module import ClassificationModule
from src.models.components.forecasters import RelaxedGCNNForecaster
from src.models.components.gcnn import GroupConv, RelaxedGroupConv
from src.models.components.gcnn.learned import renormalise
from src.models.components.gcnn.relaxation import relaxed_layers
from src.models.dual_ascent import DualAscent
from tests.helpers.layer_cases import FREE, RELAXABLE, make_input, make_layer

RATE, RHO, DAMPING = 0.1, 2.0, 0.3


def network(theta):
    net = nn.Sequential(make_layer("relaxed group"), nn.ReLU(), make_layer("steerable"))
    return net, dict(zip(relaxed_layers(net), theta))


@pytest.mark.parametrize("elastic", [None, RHO])
def test_the_loss_and_the_update_are_those_of_the_formula(elastic):
    net, thetas = network((-0.5, 0.25))
    ascent = DualAscent(RATE, elastic, DAMPING)
    ascent.start(net)
    for name, theta in thetas.items():
        nn.init.constant_(net.get_submodule(name).relaxation, theta)
    assert ascent.named_multipliers(net) == dict.fromkeys(thetas, 0.0)
    multipliers = dict.fromkeys(thetas, 0.0)
    for _ in range(3):
        ascent.ascend(net)
        for name, theta in thetas.items():
            if elastic is None:
                multipliers[name] += RATE * theta
            else:
                bound = multipliers[name] / RHO
                multipliers[name] = max(0.0, multipliers[name] + RATE * (abs(theta) - bound))
        assert ascent.named_multipliers(net) == pytest.approx(multipliers)
        sizes = thetas if elastic is None else {n: abs(t) for n, t in thetas.items()}
        terms = [multipliers[n] * sizes[n] + DAMPING / 2 * thetas[n] ** 2 for n in thetas]
        loss = ascent(net)
        assert loss.item() == pytest.approx(sum(terms))
        for (name, theta), layer in zip(thetas.items(), relaxed_layers(net).values()):
            sign = 1 if elastic is None or theta > 0 else -1
            (gradient,) = torch.autograd.grad(loss, layer.relaxation, retain_graph=True)
            assert gradient.item() == pytest.approx(multipliers[name] * sign + DAMPING * theta)
    assert list(ascent.state_dict()) == ["multipliers"]


def fitted(target, steps=1000, **options):
    """|theta| and squared error of a relaxed layer that learned a target, by dual ascent."""
    layer, ascent = make_layer("free group"), DualAscent(**options)
    ascent.start(layer)
    optimizer, x = torch.optim.Adam(layer.parameters(), lr=0.01), make_input(layer, batch=4)
    y = target(x).detach()
    for _ in range(steps):
        error = (layer(x) - y).square().mean()
        optimizer.zero_grad()
        (error + ascent(layer)).backward()
        optimizer.step()
        renormalise(layer)
        ascent.ascend(layer)
    return layer.relaxation.abs().item(), error.item()


@pytest.mark.slow
def test_symmetric_data_end_at_zero_and_others_stay_away():
    """Damped, and in the elastic form; undamped, nothing stops theta from swinging."""
    torch.manual_seed(1)
    symmetric = GroupConv(2, 3, 3, "c4")
    other = RelaxedGroupConv(2, 3, 3, "c4", num_filter_banks=None, free_kernel=1.0)
    for options in ({"damping": 0.1}, {"elastic": 1.0, "rate": 0.01}):
        theta, error = fitted(symmetric, **options)
        assert theta < 1e-3 and error < 1e-3
    assert fitted(symmetric)[0] > 0.1
    theta, error = fitted(other, elastic=0.1, rate=0.01)
    assert theta > 0.5 and error < 1e-3


@pytest.mark.parametrize("name", [*RELAXABLE, *FREE])
def test_every_relaxed_layer_takes_part(name):
    layer = make_layer(name)
    ascent = DualAscent()
    ascent.start(layer)
    ascent.ascend(layer)
    ascent(layer).backward()
    assert layer.relaxation.grad.item() == pytest.approx(1e-3)


def test_means_over_layers_are_of_sizes_which_do_not_cancel():
    """Thetas and multipliers are of either sign."""
    net, thetas = network((-0.5, 0.25))
    module = ClassificationModule(net, torch.optim.SGD, relaxation=DualAscent(RATE))
    for name, theta in thetas.items():
        nn.init.constant_(net.get_submodule(name).relaxation, theta)
    module.relaxation.ascend(net)
    logged = RelaxedWeights().measure(None, module)
    assert [logged[f"dynamics/theta/{name}"] for name in thetas] == [-0.5, 0.25]
    assert logged["dynamics/theta"] == 0.375
    assert logged["dynamics/multiplier"] == pytest.approx(0.375 * RATE)


def test_a_layer_in_which_nothing_is_free_has_no_theta():
    """The readout's fibres are vectors, which have no group biases."""
    net = RelaxedGCNNForecaster(num_filter_banks=None, group_biases=True, hidden_channels=2)
    DualAscent().start(net)
    assert net.readout.relaxation is None and "readout" not in relaxed_layers(net)
    assert len(relaxed_layers(net)) == 4
    with pytest.raises(ValueError, match=r"with something free; got RelaxedGCNNForecaster"):
        DualAscent().start(RelaxedGCNNForecaster(num_filter_banks=None, hidden_channels=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": -1.0}, "`rate` must be a number of at least 0; got -1.0. Use model.relaxation.r"),
        (
            {"elastic": 0.0},
            "`elastic` must be .*got 0.0. Use model.relaxation.elastic=1.0, or null",
        ),
        ({"rate": 0.3, "elastic": 0.2}, "`rate` must be a number from 0 to 0.2; got 0.3. Use mod"),
        ({}, "needs a relaxed layer .*got GroupConv without any"),
    ],
)
def test_bad_values_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DualAscent(**options).start(GroupConv(1, 1, 3, "c4"))
