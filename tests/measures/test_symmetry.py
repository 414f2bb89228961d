import dataclasses
import json
from functools import partial

import pytest
import torch
from torch import nn

from src.measures import equivariance_error, relaxed_weight_errors
from src.measures.symmetry import (
    element_departures,
    element_differences,
    elements_alike,
    symmetric_fraction,
    symmetry,
)
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
from src.models.components.translation import RelaxedTranslationConv
from tests.helpers.equivariance import act
from tests.helpers.layer_cases import double_precision, randomize
from tests.helpers.measured import VECTORS

__all__ = ["double_precision"]

MAKERS = {
    "lifting": partial(gcnn.RelaxedLiftingConv, 2, 2, 3, num_filter_banks=2),
    "vectors": partial(gcnn.RelaxedLiftingConv, 1, 2, 3, in_type="vector"),
    "group": partial(gcnn.RelaxedGroupConv, 2, 2, 3, num_filter_banks=2),
    "readout": partial(gcnn.RelaxedVectorReadout, 2, 1, 3, num_filter_banks=2),
}
STRICT = {
    "lifting": gcnn.LiftingConv,
    "vectors": partial(gcnn.LiftingConv, in_type="vector"),
    "group": gcnn.GroupConv,
    "readout": gcnn.VectorReadout,
}


def layer_of(*weights):
    """A lifting layer of given relaxed weights, one bank, and group biases of 0."""
    torch.manual_seed(0)
    layer = gcnn.RelaxedLiftingConv(1, 2, 3, "c4", group_biases=True)
    layer.relaxed_weights.data[0] = torch.tensor(weights)
    return layer


def randomized(make, *arguments):
    torch.manual_seed(0)
    layer = make(*arguments)
    randomize(layer)
    return layer


def test_differences_and_departures_by_hand():
    layer = layer_of(1.0, 2.0, 1.0, 4.0)
    assert element_differences(layer)[3].tolist() == pytest.approx([1.5, 1, 1.5, 0])
    # |w(r + g) - w(g)| is 1 1 3 3 for quarter turns and 0 2 0 2 for half turns
    assert element_departures(layer).tolist() == pytest.approx([0, 1, 0.5, 1])
    layer = layer_of(1.0, 1.0, 1.0, 1.0)
    layer.group_biases.data[1] = torch.tensor([0.0, 1.0, 0.0, 1.0])  # which count too
    assert element_differences(layer)[0].tolist() == [0, 0.5, 0, 0.5]
    assert element_departures(layer).tolist() == [0, 0.5, 0, 0.5]
    torch.testing.assert_close(element_differences(layer).mean(), layer.relaxed_weight_error())


@pytest.mark.parametrize(("name", "group"), [("vectors", "c8"), ("group", "d4"), ("readout", "d2")])
def test_departures_equal_the_loops_and_form_a_length(name, group):
    layer = randomized(MAKERS[name], group)
    torch.testing.assert_close(element_differences(layer).mean(), layer.relaxed_weight_error())
    g, w, departures = layer.group, layer.relaxed_weights.detach(), element_departures(layer)
    for r in range(g.order):
        moved = torch.stack([w[:, g.cayley[r, h]] for h in range(g.order)], 1)
        torch.testing.assert_close(departures[r], (moved - w).abs().mean() / w.abs().mean())
        assert departures[g.inverse[r]] == pytest.approx(departures[r].item(), rel=1e-5)
        for s in range(g.order):
            assert departures[g.cayley[r, s]] <= departures[r] + departures[s] + 1e-6


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("group", "subgroup"), [("c4", [0, 2]), ("d4", [0, 5]), ("d4", [0, 1, 2, 3])]
)
def test_what_is_kept_are_the_elements_of_equivariance(double_precision, name, group, subgroup):
    """Of weights that are constant on the cosets H g: right cosets, which are alike."""
    layer = randomized(MAKERS[name], group)
    cayley, order = layer.group.cayley, layer.group.order
    cosets = sorted({tuple(sorted(cayley[r, g].item() for r in subgroup)) for g in range(order)})
    for number, coset in enumerate(cosets, start=1):
        layer.relaxed_weights.data[:, coset] = number + torch.rand(layer.num_filter_banks, 1) / 2
    found = symmetry(layer).layers[""].over_group
    assert (found.group, found.kept, found.alike) == (group, subgroup, list(map(list, cosets)))
    x = torch.randn(2, 2, *([order] if layer.in_type == "regular" else []), 7, 7)
    y, out_type = layer(x).detach(), "vector" if name == "readout" else "regular"
    for r, departure in enumerate(found.departures):
        moved = layer(act(x, group, r, layer.in_type)).detach()
        error = (moved - act(y, group, r, out_type)).norm() / y.norm()
        assert (departure, error < 1e-12) == (0, True) if r in subgroup else error > 1e-3


def test_the_tolerance_decides_what_is_kept_and_chains_of_near_elements_are_alike():
    for tolerance, kept in ((0.01, [0, 2]), (0.005, [0]), (0.2, [0, 1, 2, 3])):
        found = symmetry(layer_of(1.0, 1.1, 1.02, 1.1), tolerance=tolerance)
        assert found.layers[""].over_group.kept == kept
    differences = element_differences(layer_of(1.0, 1.009, 1.018, 1.2))
    assert differences[0, 2] > 0.01
    assert elements_alike(differences, 0.01) == [[0, 1, 2], [3]]
    assert elements_alike(differences, 0.0) == [[0], [1], [2], [3]]
    assert elements_alike(torch.zeros(1, 1)) == [[0]]


def test_fraction_by_hand():
    """One bank: the mean 2 of weights 1 3 1 3 is left, 4 of (1 + 9) / 2."""
    layer = layer_of(1.0, 3.0, 1.0, 3.0)
    assert symmetric_fraction(layer) == pytest.approx(0.8, abs=1e-6)
    set_relaxation(layer, 0.5)  # of the weights in use
    assert element_departures(layer).tolist() == pytest.approx([0, 0.5, 0, 0.5])
    assert symmetric_fraction(layer) == pytest.approx(4 / 4.25)
    assert symmetric_fraction(layer_of(1.0, -1.0, 1.0, -1.0)) == pytest.approx(0, abs=1e-6)


def nearest_strict_kernel(name, layer):
    """A strict layer's expanded kernel is linear in its weight: the best one by least squares."""
    strict, columns = STRICT[name](layer.in_channels, layer.out_channels, 3, layer.group), []
    for unit in torch.eye(strict.weight.numel()):
        strict.weight = nn.Parameter(unit.view(strict.weight.shape))
        columns.append(strict.expanded_kernel().detach().flatten())
    matrix, kernel = torch.stack(columns, 1), layer.expanded_kernel().detach()
    psi = torch.linalg.lstsq(matrix, kernel.flatten()[:, None], driver="gelsd").solution
    return (matrix @ psi).view(kernel.shape)


@pytest.mark.parametrize(
    ("name", "group"),
    [("lifting", "d4"), ("vectors", "c4"), ("group", "d2"), ("readout", "c4"), ("group", "c8")],
)
def test_the_projection_is_the_nearest_strict_kernel_by_least_squares(
    double_precision, name, group
):
    """On C8, whose elements do not map the grid to itself, the fraction is a lower bound."""
    layer = randomized(MAKERS[name], group)
    kernel, nearest = layer.expanded_kernel().detach(), nearest_strict_kernel(name, layer)
    best = 1 - ((kernel - nearest).square().sum() / kernel.square().sum()).item()
    energy = (nearest.square().sum() / kernel.square().sum()).item()
    assert best == pytest.approx(energy, abs=1e-12)
    with relaxed_by(layer, 0.0):
        exact = torch.allclose(layer.expanded_kernel(), nearest, rtol=0, atol=1e-10)
    assert exact == (group != "c8")
    if exact:
        assert symmetric_fraction(layer) == pytest.approx(best, abs=1e-12)
    else:
        assert symmetric_fraction(layer) < best - 1e-6


def test_fraction_over_positions_and_of_a_steerable_layer(double_precision):
    layer = randomized(partial(RelaxedTranslationConv, 2, 3, 3, (4, 5), num_filter_banks=3))
    w, psi = layer.relaxed_weights.detach(), layer.weight.detach()
    kernels = torch.einsum("lyx,loikm->yxoikm", w, psi)
    mean = kernels.mean((0, 1))  # of kernels that shall be equal, the nearest one
    expected = w[0].numel() * mean.square().sum() / kernels.square().sum()
    assert symmetric_fraction(layer) == pytest.approx(expected.item(), abs=1e-12)
    layer = randomized(RelaxedSteerableConv, 2, 2, 3, "c4")
    kernel = layer.expanded_kernel()
    strict = torch.einsum("oib,bpqyx->opiqyx", layer.weight.mean((-2, -1)), layer.basis)
    residual = kernel - strict.flatten(2, 3).flatten(0, 1)
    expected = 1 - (residual.square().sum() / kernel.square().sum()).item()
    assert symmetric_fraction(layer) == pytest.approx(expected, abs=1e-12)


OVER_GROUPS = [*(partial(make, "c4") for make in MAKERS.values()), partial(MAKERS["group"], "c8")]
OTHERS = [partial(RelaxedTranslationConv, 2, 2, 3, (5, 5))]
OTHERS += [partial(RelaxedSteerableConv, 2, 2, 3, "c4")]


@pytest.mark.parametrize("make", OVER_GROUPS + OTHERS)
def test_the_fraction_is_one_for_strict_layers_alone(make):
    """Also at another scale, with theta = 0, and for a kernel of zeros."""
    layer = make()
    relaxed = getattr(layer, "relaxed_weights", layer.weight).data
    strict = [symmetric_fraction(layer)]
    relaxed.mul_(0.3)
    strict.append(symmetric_fraction(layer))
    relaxed.view(-1)[0] += 0.5
    assert symmetric_fraction(layer) < 1 - 1e-6
    set_relaxation(layer, 0.0)
    strict.append(symmetric_fraction(layer))
    layer.weight.data.zero_()
    assert [*strict, symmetric_fraction(layer)] == [1.0] * 4


def network(make=RelaxedGCNN, **options):
    torch.manual_seed(0)
    net = make(hidden_channels=2, num_layers=3, **options)
    for layer in relaxed_layers(net).values():
        nn.init.normal_(layer.relaxed_weights)
    return net


@pytest.mark.parametrize("kind", ["scalar", "vector"])
def test_scores_before_and_after_the_projection(kind):
    net, x, options = network(pool_after=[], dropout=0.5), torch.randn(4, 1, 8, 8), {}
    if kind == "vector":
        net, x = network(RelaxedGCNNForecaster, num_inputs=2), torch.randn(2, 4, 8, 8)
        options = VECTORS

    def score():
        error = equivariance_error(net, [x], "c4", **options)
        return {"mean": net(x).mean().item(), "error": error, "drawn": torch.rand(()).item()}

    found = symmetry(net, score)
    net.eval()
    before = score()
    with relaxed_by(net, 0.0):
        after = score()
    for name in ("mean", "error"):
        old, new, difference = found.scores[name].values()
        assert (old, new) == pytest.approx((before[name], after[name]), abs=1e-6)
        assert difference == new - old
    assert old > 1e-3 > 1e-5 > new
    assert found.scores["drawn"]["difference"] == 0, "both calls start from one random state"
    errors = {name: error.item() for name, error in relaxed_weight_errors(net).items()}
    assert {n: layer.relaxed_weight_error for n, layer in found.layers.items()} == errors


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
        symmetry(net, score)
    assert set(called[1].values()) == {0.0}
    assert net.training and called[0] == relaxations(net) == thetas


def test_every_kind_of_relaxed_layer_plain_results_and_errors():
    found = symmetry(nn.ModuleList(map(randomized, OVER_GROUPS + OTHERS)))
    assert found.scores == {}
    assert [layer.over_group is None for layer in found.layers.values()] == [False] * 5 + [True] * 2
    plain = dataclasses.asdict(found)
    assert json.loads(json.dumps(plain)) == plain
    with pytest.raises(ValueError, match=r"needs a relaxed layer .*; got GroupConv without any"):
        symmetry(gcnn.GroupConv(1, 1, 3, "c4"))
    with pytest.raises(ValueError, match="`tolerance` must be a number of at least 0; got"):
        symmetry(layer_of(1.0, 1.0, 1.0, 1.0), tolerance=-0.1)
