import dataclasses
import json
from functools import partial

import pytest
import torch
from torch import nn

from src.measures import relaxed_weight_errors
from src.measures.symmetry import (
    departure,
    element_departures,
    element_differences,
    elements_alike,
    kernel_departures,
    symmetries,
)
from src.models.components import gcnn
from src.models.components.e2cnn import RelaxedSteerableConv
from src.models.components.gcnn.relaxation import relaxations, relaxed_by, set_relaxation
from src.models.components.translation import RelaxedTranslationConv
from tests.helpers.equivariance import act
from tests.helpers.layer_cases import FREE, double_precision, make_layer, randomize, slow_kernel
from tests.helpers.slow_layers import inverse, multiply, turn, turn_vectors

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


def test_departures_by_hand():
    """One bank: kernels in the ratios of the weights, whose mean is 2."""
    layer = layer_of(1.0, 2.0, 1.0, 4.0)
    assert element_differences(layer)[3].tolist() == pytest.approx([1.5, 1, 1.5, 0])
    root = (22 / 4) ** 0.5  # of the mean square; departures from 2 are -1 0 -1 2
    assert departure(layer) == pytest.approx(100 * (6 / 22) ** 0.5)
    assert kernel_departures(layer).tolist() == pytest.approx(
        [100 / root, 0, 100 / root, 200 / root]
    )
    # squares of w(r + g) - w(g) sum to 1 + 1 + 9 + 9 for quarter turns and 4 + 4 for half turns
    expected = [0, 100 * (20 / 44) ** 0.5, 100 * (8 / 44) ** 0.5, 100 * (20 / 44) ** 0.5]
    assert element_departures(layer).tolist() == pytest.approx(expected)
    layer = layer_of(1.0, 1.0, 1.0, 1.0)
    layer.group_biases.data[1] = torch.tensor([0.0, 1.0, 0.0, 1.0])  # which are no part of it
    assert (departure(layer), kernel_departures(layer).tolist()) == (0.0, [0.0] * 4)
    assert element_differences(layer)[0].tolist() == [0, 0.5, 0, 0.5]
    assert symmetries(layer)[""].over_group.kept == [0, 2]
    torch.testing.assert_close(element_differences(layer).mean(), layer.relaxed_weight_error())
    layer = layer_of(1.0, 3.0, 1.0, 3.0)
    set_relaxation(layer, 0.5)  # the weights in use count: 1.5 2.5 1.5 2.5
    assert departure(layer) == pytest.approx(100 * (0.25 / 4.25) ** 0.5)
    assert departure(layer_of(1.0, -1.0, 1.0, -1.0)) == pytest.approx(100)


@pytest.mark.parametrize(
    ("name", "group"),
    [("lifting", "c4"), ("vectors", "c8"), ("group", "d4"), ("readout", "d2"), ("readout", "c8")],
)
def test_departures_equal_those_of_dense_kernels(double_precision, name, group):
    """Of kernels at each element, and of all; with exact elements they form a length."""
    layer = randomized(MAKERS[name], group)
    torch.testing.assert_close(element_differences(layer).mean(), layer.relaxed_weight_error())
    g, order, axis = layer.group, layer.group.order, 1 if name == "readout" else 0
    own, whole = layer.relaxed_weights.detach().clone(), slow_kernel(layer).detach()

    def norms(kernel):
        """Of the parts of each element, an axis of the output's channels or the input's."""
        return kernel.unflatten(axis, (-1, order)).movedim(axis + 1, 0).flatten(1).norm(dim=1)

    def at(weights):
        layer.relaxed_weights.data = weights
        return slow_kernel(layer).detach()

    strict = at(own.mean(1, keepdim=True).expand_as(own).clone())
    moved = [at(own[:, g.cayley[g.inverse[r]]]) for r in range(order)]
    at(own)
    expected = 100 * (whole - strict).norm() / whole.norm()
    assert departure(layer) == pytest.approx(expected.item(), rel=1e-12)
    of_kernels = 100 * norms(whole - strict) / norms(whole).square().mean().sqrt()
    torch.testing.assert_close(kernel_departures(layer), of_kernels, rtol=1e-12, atol=0)
    of_elements = torch.stack([100 * (whole - m).norm() / (2**0.5 * whole.norm()) for m in moved])
    found = element_departures(layer)
    torch.testing.assert_close(found, of_elements, rtol=1e-12, atol=1e-10)
    assert of_kernels.square().mean().sqrt() == pytest.approx(expected.item())
    if group != "c8":
        assert found.square().mean().sqrt() == pytest.approx(expected.item())
        assert (found[g.cayley] <= found[:, None] + found + 1e-9).all()


def turned_kernel(layer, kernel, r):
    """The kernel, as expanded fibres, of the layer turned by r: pixels, output and input."""
    name = layer.group.name
    kernel = turn(kernel, name, r, "bilinear")
    for axis, kind in ((1, layer.out_type), (3, layer.in_type)):
        if kind == "regular":
            order = [multiply(name, inverse(name, r), g) for g in range(kernel.shape[axis])]
            kernel = kernel.index_select(axis, torch.tensor(order))
        if kind == "vector":
            kernel = turn_vectors(kernel.movedim(axis, -3), name, r).movedim(-3, axis)
    return kernel


@pytest.mark.parametrize("group", ["c4", "d4"])
@pytest.mark.parametrize("name", FREE)
def test_departures_of_free_kernels_equal_those_of_dense_kernels(double_precision, name, group):
    layer = randomized(make_layer, name, 3, group)
    whole = layer.expanded_fibres().detach()
    with relaxed_by(layer, 0.0):
        strict = layer.expanded_fibres().detach()
    assert departure(layer) == pytest.approx((100 * (whole - strict).norm() / whole.norm()).item())
    squares = kernel_departures(layer).square().mean().sqrt()
    assert squares == pytest.approx(departure(layer))
    turned = [turned_kernel(layer, whole, r) for r in range(layer.group.order)]
    expected = [100 * (whole - t).norm().item() / (2**0.5 * whole.norm().item()) for t in turned]
    assert element_departures(layer).tolist() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("group", "subgroup"), [("c4", [0, 2]), ("d4", [0, 1, 2, 3])])
@pytest.mark.parametrize("name", ["free lifting", "free lifting of vectors", "free readout"])
def test_free_kernels_that_keep_a_subgroup(double_precision, name, group, subgroup):
    layer = randomized(make_layer, name, 3, group)
    with torch.no_grad():
        layer.kernel_biases.zero_()
        free = [turned_kernel(layer, layer.free_kernel, r) for r in subgroup]
        layer.free_kernel.copy_(sum(free) / len(free))
    found = symmetries(layer)[""].over_group
    assert found.kept == subgroup
    differences = torch.tensor(found.differences)
    torch.testing.assert_close(differences, differences.t())
    zero = [r for r, size in enumerate(found.element_departures) if size < 1e-10]
    assert zero == subgroup


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
    found = symmetries(layer)[""].over_group
    assert (found.group, found.kept, found.alike) == (group, subgroup, list(map(list, cosets)))
    x = torch.randn(2, 2, *([order] if layer.in_type == "regular" else []), 7, 7)
    y, out_type = layer(x).detach(), "vector" if name == "readout" else "regular"
    for r, departing in enumerate(found.element_departures):
        moved = layer(act(x, group, r, layer.in_type)).detach()
        error = (moved - act(y, group, r, out_type)).norm() / y.norm()
        assert (departing, error < 1e-12) == (0, True) if r in subgroup else error > 1e-3


def test_the_tolerance_decides_what_is_kept_and_chains_of_near_elements_are_alike():
    for tolerance, kept in ((0.01, [0, 2]), (0.005, [0]), (0.2, [0, 1, 2, 3])):
        found = symmetries(layer_of(1.0, 1.1, 1.02, 1.1), tolerance=tolerance)
        assert found[""].over_group.kept == kept
    differences = element_differences(layer_of(1.0, 1.009, 1.018, 1.2))
    assert differences[0, 2] > 0.01
    assert elements_alike(differences, 0.01) == [[0, 1, 2], [3]]
    assert elements_alike(differences, 0.0) == [[0], [1], [2], [3]]
    assert elements_alike(torch.zeros(1, 1)) == [[0]]


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
    """On C8, whose elements do not map the grid to itself, the departure is an upper bound."""
    layer = randomized(MAKERS[name], group)
    kernel, nearest = layer.expanded_kernel().detach(), nearest_strict_kernel(name, layer)
    best = 100 * ((kernel - nearest).norm() / kernel.norm()).item()
    energy = (nearest.square().sum() / kernel.square().sum()).item()
    assert 1 - (best / 100) ** 2 == pytest.approx(energy, abs=1e-12)
    with relaxed_by(layer, 0.0):
        exact = torch.allclose(layer.expanded_kernel(), nearest, rtol=0, atol=1e-10)
    assert exact == (group != "c8")
    if exact:
        assert departure(layer) == pytest.approx(best, rel=1e-10)
    else:
        assert departure(layer) > best + 1e-6


def test_departures_over_positions_and_of_a_steerable_layer(double_precision):
    layer = randomized(partial(RelaxedTranslationConv, 2, 3, 3, (4, 5), num_filter_banks=3))
    w, psi = layer.relaxed_weights.detach(), layer.weight.detach()
    kernels = torch.einsum("lyx,loikm->yxoikm", w, psi)
    departures = kernels - kernels.mean((0, 1))  # from the mean of kernels that shall be equal
    expected = 100 * departures.norm() / kernels.norm()
    assert departure(layer) == pytest.approx(expected.item(), rel=1e-12)
    layer = randomized(RelaxedSteerableConv, 2, 2, 3, "c4")
    kernel = layer.expanded_kernel()
    strict = torch.einsum("oib,bpqyx->opiqyx", layer.weight.mean((-2, -1)), layer.basis)
    residual = kernel - strict.flatten(2, 3).flatten(0, 1)
    expected = 100 * (residual.norm() / kernel.norm()).item()
    assert departure(layer) == pytest.approx(expected, rel=1e-12)


OVER_GROUPS = [*(partial(make, "c4") for make in MAKERS.values()), partial(MAKERS["group"], "c8")]
OTHERS = [partial(RelaxedTranslationConv, 2, 2, 3, (5, 5))]
OTHERS += [partial(RelaxedSteerableConv, 2, 2, 3, "c4")]


@pytest.mark.parametrize("make", OVER_GROUPS + OTHERS)
def test_the_departure_is_zero_for_strict_layers_alone(make):
    """Also at another scale, with theta = 0, and for a kernel of zeros; then whatever theta is."""
    layer = make()
    relaxed = getattr(layer, "relaxed_weights", layer.weight).data
    strict = [departure(layer)]
    relaxed.mul_(0.3)
    strict.append(departure(layer))
    relaxed.view(-1)[0] += 0.5
    assert departure(layer) > 1e-3
    set_relaxation(layer, 0.0)
    strict.append(departure(layer))
    assert relaxations(layer) == {"": 0.0}
    layer.weight.data.zero_()
    assert [*strict, departure(layer)] == [0.0] * 4


def test_every_kind_of_relaxed_layer_plain_results_and_errors():
    network = nn.ModuleList(map(randomized, OVER_GROUPS + OTHERS))
    found = symmetries(network)
    assert [layer.over_group is None for layer in found.values()] == [False] * 5 + [True] * 2
    errors = {name: error.item() for name, error in relaxed_weight_errors(network).items()}
    assert {name: layer.relaxed_weight_error for name, layer in found.items()} == errors
    for layer in map(dataclasses.asdict, found.values()):
        assert json.loads(json.dumps(layer)) == layer
    assert symmetries(gcnn.GroupConv(1, 1, 3, "c4")) == {}
    with pytest.raises(ValueError, match="`tolerance` must be a number of at least 0; got"):
        symmetries(layer_of(1.0, 1.0, 1.0, 1.0), tolerance=-0.1)
