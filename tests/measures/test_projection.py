from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import nn

from src.measures import Objective, equivariance_error
from src.measures.projection import departure_gradients, projection
from src.measures.symmetry import departure
from src.models.components import gcnn
from src.models.components.classifiers import RelaxedGCNN
from src.models.components.e2cnn import RelaxedSteerableConv
from src.models.components.forecasters import RelaxedGCNNForecaster
from src.models.components.gcnn.relaxation import (
    relaxations,
    relaxed_by,
    relaxed_layers,
    set_relaxation,
)
from src.models.components.rollout import Rollout
from src.models.components.translation import RelaxedTranslationConv
from tests.helpers.layer_cases import double_precision, make_input, make_layer, randomize
from tests.helpers.measured import VECTORS

__all__ = ["double_precision"]

LIFTING = partial(gcnn.RelaxedLiftingConv, 2, 2, 3, num_filter_banks=2, group_biases=True)
KINDS = {
    "lifting": partial(LIFTING, "c4"),
    "off the grid": partial(LIFTING, "c8"),
    "group": partial(gcnn.RelaxedGroupConv, 2, 2, 3, "d4", num_filter_banks=2),
    "readout": partial(gcnn.RelaxedVectorReadout, 2, 1, 3, "c4", num_filter_banks=2),
    "steerable": partial(RelaxedSteerableConv, 2, 2, 3, "c4"),
    "translation": partial(RelaxedTranslationConv, 2, 2, 3, (6, 6)),
}


def layer_and_loss(name):
    """A layer of random weights with the loss of its own outputs against random targets."""
    torch.manual_seed(0)
    layer = KINDS[name]()
    randomize(layer)
    x = make_input(layer, 6, 6, batch=5)
    return layer, Objective(layer, nn.MSELoss(), [(x, torch.randn_like(layer(x)))])


def relaxed_of(layer):
    """The relaxed parameter, and the axes that a strict layer shares it over."""
    over_group = isinstance(layer, gcnn.RelaxedLayer)
    return getattr(layer, "relaxed_weights", layer.weight), (-1,) if over_group else (-2, -1)


@pytest.mark.parametrize("theta", [None, 0.0])
@pytest.mark.parametrize("name", KINDS)
def test_the_gradient_is_the_fall_of_the_loss_per_per_cent_of_departure(
    double_precision, name, theta
):
    """Departures as parameters of their own: small steps by one half, losses of the other."""
    layer, objective = layer_and_loss(name)
    set_relaxation(layer, theta)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    found = departure_gradients(layer, objective)[""]
    assert all(map(torch.equal, before, layer.parameters()))
    assert all(p.grad is None for p in layer.parameters())
    set_relaxation(layer, None)
    parameter, axes = relaxed_of(layer)
    if getattr(layer, "group_biases", None) is not None:
        biases = layer.group_biases.data
        layer.group_biases.data = biases.mean(1, keepdim=True).expand_as(biases).clone()
    [(x, target)], falls = objective.data, []
    mean = parameter.detach().mean(axes, keepdim=True)
    for own, other in ((0, 1), (1, 0)):
        delta = torch.zeros_like(parameter, requires_grad=True)
        layer.effective_weights = lambda d=delta: mean + d - d.mean(axes, keepdim=True)
        nn.functional.mse_loss(layer(x[own::2]), target[own::2]).backward()
        del layer.effective_weights
        losses, departures = [], []
        for step in (1e-5, -1e-5):  # central differences
            parameter.data = mean - step * delta.grad / delta.grad.norm()
            losses.append(nn.functional.mse_loss(layer(x[other::2]), target[other::2]).item())
            departures.append(departure(layer))
        falls.append((losses[1] - losses[0]) / sum(departures))
    assert found == pytest.approx(sum(falls) / 2, rel=1e-5)


@pytest.mark.parametrize("name", ["free lifting", "free readout"])
def test_free_kernels_depart_along_their_gradients(double_precision, name):
    """Small steps by one half from the strict layer, losses of the other."""
    torch.manual_seed(0)
    layer = make_layer(name)
    x = make_input(layer, 6, 6, batch=4)
    target, falls = torch.randn_like(layer(x)), []
    free = [layer.kernel_biases, layer.free_kernel]
    for own, other in ((0, 1), (1, 0)):
        loss = nn.functional.mse_loss(layer(x[own::2]), target[own::2])
        gradients, losses, departures = torch.autograd.grad(loss, free), [], []
        for step in (1e-5, -1e-5):  # central differences
            for parameter, gradient in zip(free, gradients):
                parameter.data = -step * gradient
            losses.append(nn.functional.mse_loss(layer(x[other::2]), target[other::2]).item())
            departures.append(departure(layer))
            for parameter in free:
                parameter.data.zero_()
        falls.append((losses[1] - losses[0]) / sum(departures))
    found = departure_gradients(layer, Objective(layer, nn.MSELoss(), [(x, target)]))
    assert found[""] == pytest.approx(sum(falls) / 2, rel=1e-5)


def test_only_a_departure_that_both_halves_ask_for_counts():
    """L = mean_g (a_g . W_g): the a_g of the halves that differ from their mean count."""
    layer = gcnn.RelaxedLiftingConv(1, 1, 1, "c2", bias=False)
    layer.weight.data.fill_(3.0)

    def gradient(*weights, batch_size=2):
        x, a = torch.ones(2, 1, 1, 1), torch.tensor(weights).view(2, 1, 2, 1, 1)
        batches = list(zip(x.split(batch_size), a.split(batch_size)))
        objective = Objective(layer, lambda y, target: (y * target).sum(), batches)
        return departure_gradients(layer, objective)[""]

    # The kernel is (3, 3), of norm sqrt(18). Along (1, -1) / sqrt(2) the loss falls by
    # |a_1 - a_2| / sqrt(2) per unit, and one per cent is sqrt(18) / 100.
    unit = 4 / 2**0.5 * 18**0.5 / 100
    assert gradient((5.0, 1.0), (5.0, 1.0)) == pytest.approx(unit)
    assert gradient((5.0, 1.0), (1.0, 5.0)) == pytest.approx(-unit)
    assert gradient((5.0, 1.0), (5.0, 1.0), batch_size=1) == pytest.approx(unit)
    assert gradient((5.0, 1.0), (2.0, 2.0)) == gradient((2.0, 2.0), (2.0, 2.0)) == 0.0


def test_buoyancy_asks_every_layer_to_depart_and_noise_asks_none():
    """Forecasts that always add one vector, which no equivariant network can."""
    net = network(RelaxedGCNNForecaster, num_inputs=1)
    x, up = torch.randn(16, 2, 8, 8), torch.tensor([0.0, -1.0]).view(2, 1, 1)
    falls = [
        departure_gradients(net, Objective(net, nn.MSELoss(), [(x, target)])).values()
        for target in (x, x + up)
    ]
    assert min(falls[1]) > 10 * max(map(abs, falls[0]))


def network(make=RelaxedGCNN, **options):
    torch.manual_seed(0)
    net = make(hidden_channels=2, num_layers=3, **options)
    for layer in relaxed_layers(net).values():
        nn.init.normal_(layer.relaxed_weights)
    return net


def objective_of(net, x):
    return Objective(
        net, lambda y, target: (y - target).square().mean(), [(x, torch.zeros(len(x), 1))]
    )


@pytest.mark.parametrize("kind", ["scalar", "vector"])
def test_scores_before_and_after_the_projection(kind):
    net, x, options = network(pool_after=[], dropout=0.5), torch.randn(4, 1, 8, 8), {}
    objective = objective_of(net, x)
    if kind == "vector":
        net, x = network(RelaxedGCNNForecaster, num_inputs=2), torch.randn(2, 4, 8, 8)
        options, target = VECTORS, torch.randn(2, 1, 2, 8, 8)
        objective = Objective(Rollout(net, 1), nn.MSELoss(), [(x.unflatten(1, (2, 2)), target)])

    def score():
        error = equivariance_error(net, [x], "c4", **options)
        return {"mean": net(x).mean().item(), "error": error, "drawn": torch.rand(()).item()}

    @contextmanager
    def halved():
        """In place of statistics: whatever the context changes holds after the projection alone."""
        net.head_scale = 0.5
        yield
        del net.head_scale

    seen = []
    found = projection(
        net, lambda: seen.append(vars(net).get("head_scale")) or score(), objective, halved
    )
    assert seen == [None, 0.5]
    net.eval()
    before = score()
    with relaxed_by(net, 0.0):
        after = score()
        assert found.departure_gradients == pytest.approx(departure_gradients(net, objective))
    assert set(found.departure_gradients) == set(relaxed_layers(net))
    assert 0 not in found.departure_gradients.values()
    for name in ("mean", "error"):
        old, new, difference = found.scores[name].values()
        assert (old, new) == pytest.approx((before[name], after[name]), abs=1e-6)
        assert difference == new - old
    assert old > 1e-3 > 1e-5 > new
    assert found.scores["drawn"]["difference"] == 0, "both calls start from one random state"


@pytest.mark.parametrize("theta", [None, 0.5])
def test_an_error_in_a_score_leaves_the_network_as_it_was(theta):
    net, called = network(pool_after=[], dropout=0.5), []
    set_relaxation(net, theta)
    thetas = relaxations(net)

    def score():
        called.append(relaxations(net))
        if len(called) == 2:
            raise RuntimeError("no score")
        return {}

    with pytest.raises(RuntimeError, match="no score"):
        projection(net, score, objective_of(net, torch.randn(4, 1, 8, 8)))
    assert set(called[1].values()) == {0.0}
    assert net.training and called[0] == relaxations(net) == thetas
