import dataclasses
import json
import random

import pytest
import torch
from torch import nn

from src.measures import equivariance_error, relaxed_weight_error, relaxed_weight_errors
from src.measures.symmetry import (
    LayerSymmetry,
    ScoreChange,
    element_departures,
    element_differences,
    elements_alike,
    projected,
    symmetric_fraction,
    symmetry,
)
from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.forecasters import RelaxedGCNNForecaster
from src.models.components.gcnn import (
    GroupConv,
    LiftingConv,
    RelaxedGroupConv,
    RelaxedLiftingConv,
    RelaxedVectorReadout,
    VectorReadout,
    make_group,
)
from src.models.components.gcnn.relaxation import (
    relaxations,
    relaxed_by,
    relaxed_layers,
    set_relaxation,
)
from src.models.components.steerable import RelaxedSteerableConv
from src.models.components.translation import RelaxedTranslationConv
from tests.helpers.equivariance import act
from tests.helpers.layer_cases import double_precision, randomize

__all__ = ["double_precision"]

MAKERS = {
    "lifting": lambda group: RelaxedLiftingConv(2, 2, 3, group, num_filter_banks=2),
    "vectors": lambda group: RelaxedLiftingConv(1, 2, 3, group, in_type="vector"),
    "group": lambda group: RelaxedGroupConv(2, 2, 3, group, num_filter_banks=2),
    "readout": lambda group: RelaxedVectorReadout(2, 1, 3, group, num_filter_banks=2),
}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def layer_of(weights, group="c4"):
    """A lifting layer of given relaxed weights [L, |G|]."""
    weights = torch.as_tensor(weights)
    torch.manual_seed(0)
    layer = RelaxedLiftingConv(1, 2, 3, group, num_filter_banks=len(weights))
    with torch.no_grad():
        layer.relaxed_weights.copy_(weights)
    return layer


def randomized(make, group):
    torch.manual_seed(0)
    layer = make(group)
    randomize(layer)
    return layer


def errors_of_elements(layer):
    """||f(r x) - r f(x)|| / ||f(x)|| for every element r, all exact."""
    name = layer.group.name
    regular = [layer.group.order] if layer.in_type == "regular" else []
    out_type = "vector" if isinstance(layer, VectorReadout) else "regular"
    x = torch.randn(2, 2, *regular, 7, 7, dtype=layer.weight.dtype)
    with torch.no_grad():
        y = layer(x)
        moved = [layer(act(x, name, r, layer.in_type)) for r in range(layer.group.order)]
        turned = [act(y, name, r, out_type) for r in range(layer.group.order)]
    return [((m - t).norm() / y.norm()).item() for m, t in zip(moved, turned)]


def test_differences_and_departures_by_hand():
    layer = layer_of([[1.0, 2.0, 1.0, 4.0]])
    differences = [[0, 1, 0, 3], [1, 0, 1, 2], [0, 1, 0, 3], [3, 2, 3, 0]]
    assert torch.allclose(element_differences(layer), torch.tensor(differences) / 2)
    # |w(r + g) - w(g)| is 1 1 3 3 for quarter turns and 0 2 0 2 for half turns
    assert element_departures(layer).tolist() == pytest.approx([0, 1, 0.5, 1])


@every_maker
@pytest.mark.parametrize("group", ["c4", "c8", "d4"])
def test_the_mean_difference_is_the_relaxed_weight_error(make, group):
    layer = randomized(make, group)
    torch.testing.assert_close(element_differences(layer).mean(), layer.relaxed_weight_error())


def test_group_biases_count_too():
    layer = RelaxedLiftingConv(1, 2, 3, "c4", num_filter_banks=2, group_biases=True)
    with torch.no_grad():
        layer.group_biases[1] = torch.tensor([0.0, 1.0, 0.0, 1.0])
    assert element_differences(layer)[0].tolist() == [0, 0.5, 0, 0.5]
    assert element_departures(layer).tolist() == [0, 0.5, 0, 0.5]
    torch.testing.assert_close(element_differences(layer).mean(), layer.relaxed_weight_error())


@every_maker
@pytest.mark.parametrize("group", ["c4", "d2", "d4"])
def test_departures_equal_the_loops_and_form_a_length(make, group):
    layer = randomized(make, group)
    g, w = layer.group, layer.relaxed_weights.detach()
    departures = element_departures(layer)
    for r in range(g.order):
        moved = torch.stack([w[:, g.cayley[r, h]] for h in range(g.order)], 1)
        torch.testing.assert_close(departures[r], (moved - w).abs().mean() / w.abs().mean())
        assert departures[g.inverse[r]] == pytest.approx(departures[r].item(), rel=1e-5)
        for s in range(g.order):
            assert departures[g.cayley[r, s]] <= departures[r] + departures[s] + 1e-6


def relax_to(layer, subgroup):
    """Relaxed weights that are constant on the cosets H g, and different on different ones."""
    cayley = layer.group.cayley
    values = torch.rand(layer.num_filter_banks, layer.group.order) + 0.5
    with torch.no_grad():
        for g in range(layer.group.order):
            coset = [cayley[r, g].item() for r in subgroup]
            layer.relaxed_weights[:, g] = values[:, min(coset)]


SUBGROUPS = [
    ("c4", [0]),
    ("c4", [0, 2]),
    ("c4", [0, 1, 2, 3]),
    ("d4", [0, 2]),
    ("d4", [0, 5]),
    ("d4", [0, 1, 2, 3]),
    ("d4", [0, 2, 4, 6]),
]


@every_maker
@pytest.mark.parametrize(("group", "subgroup"), SUBGROUPS)
def test_elements_of_no_departure_are_those_of_equivariance(
    double_precision, make, group, subgroup
):
    layer = randomized(make, group)
    relax_to(layer, subgroup)
    departures, errors = element_departures(layer), errors_of_elements(layer)
    for r, (departure, error) in enumerate(zip(departures, errors)):
        if r in subgroup:
            assert departure == 0
            assert error < 1e-12
        else:
            assert departure > 1e-3
            assert error > 1e-3


def test_only_half_turns_survive():
    layer = randomized(MAKERS["group"], "c4")
    relax_to(layer, [0, 2])
    errors = errors_of_elements(layer)
    assert errors[2] < 1e-6
    assert min(errors[1], errors[3]) > 1e-2
    found = symmetry(layer).layers[""].over_group
    assert found.kept == [0, 2]
    assert found.alike == [[0, 2], [1, 3]]
    assert found.group == "c4"


def test_classes_of_a_group_that_does_not_commute_are_right_cosets():
    layer = randomized(MAKERS["lifting"], "d4")
    relax_to(layer, [0, 5])
    cayley = make_group("d4").cayley
    cosets = {tuple(sorted(cayley[r, g].item() for r in (0, 5))) for g in range(8)}
    assert elements_alike(element_differences(layer)) == [list(c) for c in sorted(cosets)]
    others = {tuple(sorted(cayley[g, r].item() for r in (0, 5))) for g in range(8)}
    assert cosets != others


def test_chains_of_near_elements_are_alike():
    layer = layer_of([[1.0, 1.009, 1.018, 1.2]])
    differences = element_differences(layer)
    assert differences[0, 2] > 0.01
    assert elements_alike(differences, 0.01) == [[0, 1, 2], [3]]
    assert elements_alike(differences, 0.0) == [[0], [1], [2], [3]]
    assert elements_alike(differences, 1.0) == [[0, 1, 2, 3]]
    assert elements_alike(torch.zeros(1, 1)) == [[0]]


def test_the_tolerance_decides_what_is_kept():
    layer = layer_of([[1.0, 1.1, 1.02, 1.1]])
    assert symmetry(layer).layers[""].over_group.kept == [0, 2]
    assert symmetry(layer, tolerance=0.005).layers[""].over_group.kept == [0]
    assert symmetry(layer, tolerance=0.2).layers[""].over_group.kept == [0, 1, 2, 3]


def test_fraction_by_hand():
    """One bank: the mean 2 of weights 1 3 1 3 is left, 4 of (1 + 9) / 2."""
    assert symmetric_fraction(layer_of([[1.0, 3.0, 1.0, 3.0]])) == pytest.approx(0.8, abs=1e-6)
    assert symmetric_fraction(layer_of([[1.0, -1.0, 1.0, -1.0]])) == pytest.approx(0, abs=1e-6)


STRICT = {"lifting": LiftingConv, "vectors": LiftingConv, "group": GroupConv}
STRICT["readout"] = VectorReadout


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("group", ["c1", "c2", "c4", "d2", "d4"])
def test_the_projection_is_the_nearest_strict_kernel_by_least_squares(
    double_precision, name, group
):
    layer = randomized(MAKERS[name], group)
    strict = strict_twin(name, layer)
    nearest = nearest_strict_kernel(strict, layer.expanded_kernel().detach())
    with relaxed_by(layer, 0.0):
        ours = layer.expanded_kernel().detach()
    assert torch.allclose(ours, nearest, rtol=0, atol=1e-10)
    kernel = layer.expanded_kernel().detach()
    energy = (nearest.square().sum() / kernel.square().sum()).item()
    assert symmetric_fraction(layer) == pytest.approx(energy, abs=1e-12)


@pytest.mark.parametrize("name", ["lifting", "group"])
def test_the_projection_on_c8_is_a_lower_bound(double_precision, name):
    layer = randomized(MAKERS[name], "c8")
    kernel = layer.expanded_kernel().detach()
    nearest = nearest_strict_kernel(strict_twin(name, layer), kernel)
    best = 1 - ((kernel - nearest).square().sum() / kernel.square().sum()).item()
    assert symmetric_fraction(layer) <= best
    assert symmetric_fraction(layer) < best - 1e-6, "else c8 would be exact"


def strict_twin(name, layer):
    options = {"in_type": "vector"} if name == "vectors" else {}
    size = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.group)
    return STRICT[name](*size, **options)


def nearest_strict_kernel(strict, kernel):
    """The strict layer's expanded kernel is linear in its weight: the best one by least squares."""
    shape, size = strict.weight.shape, strict.weight.numel()

    class Expand(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = strict

        def forward(self):
            return self.layer.expanded_kernel()

    columns = []
    for i in range(size):
        unit = torch.zeros(size).index_fill(0, torch.tensor(i), 1.0).view(shape)
        expanded = torch.func.functional_call(Expand(), {"layer.weight": unit}, ())
        columns.append(expanded.flatten())
    matrix = torch.stack(columns, 1)
    psi = torch.linalg.lstsq(matrix, kernel.flatten()[:, None], driver="gelsd").solution
    return (matrix @ psi).view(kernel.shape)


def test_fraction_over_positions_equals_the_kernels_everywhere(double_precision):
    layer = RelaxedTranslationConv(2, 3, 3, (4, 5), num_filter_banks=3)
    randomize(layer)
    w, psi = layer.relaxed_weights.detach(), layer.weight.detach()
    kernels = torch.einsum("lyx,loikm->yxoikm", w, psi)
    mean = kernels.mean((0, 1))  # of kernels that shall be equal, the nearest one
    expected = w[0].numel() * mean.square().sum() / kernels.square().sum()
    assert symmetric_fraction(layer) == pytest.approx(expected.item(), abs=1e-12)


def test_fraction_of_a_steerable_layer(double_precision):
    layer = RelaxedSteerableConv(2, 2, 3, "c4")
    randomize(layer)
    kernel = layer.expanded_kernel()
    strict = torch.einsum("oib,bpqyx->opiqyx", layer.weight.mean((-2, -1)), layer.basis)
    residual = kernel - strict.flatten(2, 3).flatten(0, 1)
    expected = 1 - (residual.square().sum() / kernel.square().sum()).item()
    assert symmetric_fraction(layer) == pytest.approx(expected, abs=1e-12)


LAYERS = [
    *(lambda make=make: make("c4") for make in MAKERS.values()),
    lambda: MAKERS["group"]("c8"),
    lambda: RelaxedTranslationConv(2, 2, 3, (5, 5)),
    lambda: RelaxedSteerableConv(2, 2, 3, "c4"),
]


@pytest.mark.parametrize("make", LAYERS)
def test_the_fraction_is_one_for_strict_layers_alone(make):
    layer = make()
    assert symmetric_fraction(layer) == 1.0
    relaxed = getattr(layer, "relaxed_weights", layer.weight)
    with torch.no_grad():
        relaxed.mul_(0.3)
    assert symmetric_fraction(layer) == 1.0
    with torch.no_grad():
        relaxed.view(-1)[0] += 0.5
    assert symmetric_fraction(layer) < 1 - 1e-6
    set_relaxation(layer, 0.0)
    assert symmetric_fraction(layer) == 1.0
    with torch.no_grad():
        layer.weight.zero_()
    assert symmetric_fraction(layer) == 1.0


def network(strict=False):
    torch.manual_seed(0)
    net = RelaxedGCNN(num_classes=3, hidden_channels=2, num_layers=3, pool_after=[], dropout=0.5)
    if not strict:
        for layer in relaxed_layers(net).values():
            nn.init.normal_(layer.relaxed_weights)
    return net


def scorer(net, images):
    def score():
        with torch.no_grad():
            logits = net(images)
        error = equivariance_error(net, [images], "c4")
        return {"mean": logits.mean(), "error": error, "drawn": torch.rand(()).item()}

    return score


def test_a_strict_network_loses_nothing():
    net = network(strict=True)
    found = symmetry(net, scorer(net, torch.randn(4, 1, 8, 8)))
    assert list(found.layers) == list(relaxed_layers(net))
    for layer in found.layers.values():
        assert layer.symmetric_fraction == 1.0
        assert layer.relaxed_weight_error == 0
        assert layer.over_group.departures == [0] * 4
        assert layer.over_group.kept == [0, 1, 2, 3]
        assert layer.over_group.alike == [[0, 1, 2, 3]]
    assert all(change.difference == 0 for change in found.scores.values())


def test_scores_before_and_after_the_projection():
    net, images = network(), torch.randn(4, 1, 8, 8)
    score = scorer(net, images)
    net.eval()
    before = score()
    with projected(net) as same:
        assert same is net
        assert relaxed_weight_error(net) == 0
        after = score()
    found = symmetry(net, score)
    for name in ("mean", "error"):
        expected = [float(before[name]), float(after[name])]
        assert found.scores[name].before == pytest.approx(expected[0], abs=1e-6)
        assert found.scores[name].after == pytest.approx(expected[1], abs=1e-6)
        change = found.scores[name]
        assert change.difference == change.after - change.before
    assert found.scores["error"].before > 1e-2
    assert found.scores["error"].after < 1e-5
    assert found.scores["drawn"].difference == 0, "both calls start from one random state"
    errors = {name: error.item() for name, error in relaxed_weight_errors(net).items()}
    assert {n: layer.relaxed_weight_error for n, layer in found.layers.items()} == errors


@pytest.mark.parametrize("theta", [None, 0.5])
def test_nothing_of_the_network_is_changed(theta):
    net = network()
    set_relaxation(net, theta)
    net.blocks[1].eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    buffers, thetas = list(dict(net.named_buffers())), relaxations(net)
    drawn = torch.get_rng_state(), random.getstate()
    requires_grad = [p.requires_grad for p in net.parameters()]
    symmetry(net, scorer(net, torch.randn(2, 1, 8, 8, generator=torch.Generator())))
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == modes
    assert list(dict(net.named_buffers())) == buffers
    assert relaxations(net) == thetas
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert random.getstate() == drawn[1]
    assert [p.requires_grad for p in net.parameters()] == requires_grad


def test_an_error_in_a_score_leaves_the_network_as_it_was():
    net, called = network(), []

    def score():
        called.append(relaxations(net))
        if len(called) == 2:
            raise RuntimeError("no score")
        return {}

    with pytest.raises(RuntimeError, match="no score"):
        symmetry(net, score)
    assert set(called[1].values()) == {0.0}
    assert relaxations(net) == {}
    assert net.training


def test_what_is_found_at_a_theta_is_of_the_weights_in_use():
    layer = layer_of([[1.0, 3.0, 1.0, 3.0]])
    set_relaxation(layer, 0.5)
    assert element_departures(layer).tolist() == pytest.approx([0, 0.5, 0, 0.5])
    assert symmetric_fraction(layer) == pytest.approx(4 / 4.25)


def test_every_kind_of_relaxed_layer_and_plain_results():
    net = nn.ModuleList(make() for make in LAYERS)
    for layer in net:
        randomize(layer)
    found = symmetry(net)
    assert found.scores == {}
    assert [layer.over_group is None for layer in found.layers.values()] == [False] * 5 + [True] * 2
    plain = dataclasses.asdict(found)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["layers"]["0"]["over_group"]["group"] == "c4"


def test_a_forecaster():
    torch.manual_seed(0)
    net = RelaxedGCNNForecaster(num_inputs=2, hidden_channels=2, num_layers=3)
    x = torch.randn(2, 4, 8, 8)
    for layer in relaxed_layers(net).values():
        nn.init.normal_(layer.relaxed_weights)

    def score():
        error = equivariance_error(net, [x], "c4", input="vector", output="vector")
        return {"error": error}

    change = symmetry(net, score).scores["error"]
    assert change.before > 1e-3
    assert change.after < 1e-5


def test_results_are_small():
    change = ScoreChange(0.5, 0.25, -0.25)
    assert dataclasses.asdict(change) == {"before": 0.5, "after": 0.25, "difference": -0.25}
    assert LayerSymmetry(0.0, 1.0, None).over_group is None


@pytest.mark.parametrize("make", [CNN, GCNN])
def test_a_network_without_relaxed_layers_is_refused(make):
    net = make(num_classes=3, num_layers=2, hidden_channels=2, pool_after=[])
    message = rf"must have a relaxed layer .*no strict projection; got {make.__name__} without any"
    with pytest.raises(ValueError, match=message):
        symmetry(net)
    with pytest.raises(ValueError, match=message), projected(net):
        pass


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), "0.1", True])
def test_a_bad_tolerance_is_refused(tolerance):
    with pytest.raises(ValueError, match=r"`tolerance`, relative to .* of at least 0; got"):
        symmetry(network(), tolerance=tolerance)


def test_scores_must_stay_the_same_ones():
    names = iter(["a", "b"])
    with pytest.raises(ValueError, match=r"same scores before and after .*\['a'\] and \['b'\]"):
        symmetry(network(), lambda: {next(names): 1.0})
