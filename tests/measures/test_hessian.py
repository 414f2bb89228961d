from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from src.measures import Objective, hessian
from src.measures.density import spectral_density
from src.measures.hessian import hessian_operator
from src.measures.krylov import random_signs
from src.measures.spectrum import extreme_eigenvalues
from src.measures.trace import trace
from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.e2cnn import E2CNN
from src.models.components.e2forecasters import E2CNNForecaster, RelaxedSteerableForecaster
from src.models.components.forecasters import RelaxedGCNNForecaster, RelaxedTranslationForecaster
from src.models.components.rollout import Rollout
from tests.helpers.dense_hessian import dense_gauss_newton, dense_hessian
from tests.helpers.objectives import (
    MODELS,
    Snapshot,
    configured_objective,
    make_data,
    make_network,
    make_objective,
    objective_at,
    scramble,
)

SMALL_CLASSIFIER = {"num_classes": 3, "hidden_channels": 1, "num_layers": 2, "pool_after": [1]}
SMALL_FORECASTER = {"num_inputs": 2, "hidden_channels": 1, "num_layers": 3}


def small_objective(make, **options):
    """Of a network of few weights, on batches of unequal size; of a forecaster two steps."""
    torch.manual_seed(0)
    forecasts = make.__name__.endswith("Forecaster")
    network = make(**options, **(SMALL_FORECASTER if forecasts else SMALL_CLASSIFIER)).double()
    scramble(network)
    if not forecasts:
        return make_objective(network, number=5, batch_size=3, classes=3)
    data = [tuple(torch.randn(2, n, 2, 2, 6, 6).double()) for n in (2, 1)]
    return Objective(Rollout(network, horizon=2), nn.MSELoss(), data)


def assert_ends(ends, eigenvalues):
    scale = np.abs(eigenvalues).max()
    for end, values in ((ends.largest, eigenvalues[::-1]), (ends.smallest, eigenvalues)):
        assert end.converged
        number = len(end.eigenvalues)
        assert end.eigenvalues == pytest.approx(values[:number], rel=1e-4, abs=1e-9 * scale)


def assert_density(density, matrix, seed):
    """Moments and distribution are those that the probes have in the dense spectrum."""
    values, vectors = np.linalg.eigh(matrix)
    probes = random_signs(len(matrix), density.num_probes, np.random.default_rng(seed))
    weights = ((np.stack(list(probes)) @ vectors) ** 2).mean(0) / len(matrix)
    nodes, got = np.array(density.nodes), np.array(density.weights)
    scale = np.abs(values).max()
    resolution = 1e-4 if len(nodes) == 2 * len(matrix) else 0.03  # weights of nodes
    for power in range(1, 7):
        expected = weights @ (values / scale) ** power
        assert got @ (nodes / scale) ** power == pytest.approx(expected, rel=1e-4, abs=1e-12)
    for x in scale * np.array([-0.3, -0.1, -0.03, 0.03, 0.1, 0.3]):
        assert got[nodes < x].sum() == pytest.approx(weights[values < x].sum(), abs=resolution)


SLOW = [
    (GCNN, {"kernel_size": 5}),
    (RelaxedGCNN, {}),
    (E2CNN, {"group": "c8"}),
    (RelaxedGCNNForecaster, {"group_biases": True}),
    (E2CNNForecaster, {"norm": "batch"}),
    (RelaxedSteerableForecaster, {}),
    (RelaxedTranslationForecaster, {"grid_size": (6, 6)}),
]


@pytest.mark.parametrize(
    ("make", "options"), [(CNN, {}), *(pytest.param(*c, marks=pytest.mark.slow) for c in SLOW)]
)
def test_products_ends_trace_and_density_are_those_of_dense_matrices(make, options):
    objective = small_objective(make, **options)
    matrix = dense_hessian(objective)
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert eigenvalues[0] < -1e-3 * eigenvalues[-1]  # both signs occur
    operator = hessian_operator(objective)
    assert_ends(extreme_eigenvalues(operator, tolerance=1e-8), eigenvalues)
    value, error = trace(operator, seed=1).of()
    assert abs(value - np.trace(matrix)) < 4 * error < np.trace(np.abs(matrix))
    assert_density(spectral_density(operator, 2, 50, seed=2), matrix, seed=2)

    matrix, operator = dense_gauss_newton(objective), hessian_operator(objective, "gauss_newton")
    eigenvalues = np.linalg.eigvalsh(matrix)
    vectors = np.random.default_rng(0).standard_normal((len(matrix), 3))
    expected = matrix @ vectors
    assert np.abs(operator @ vectors - expected).max() < 1e-10 * np.abs(expected).max()
    ends = extreme_eigenvalues(operator, 2, tolerance=1e-3)
    assert ends.largest.eigenvalues == pytest.approx(eigenvalues[:-3:-1], rel=1e-4)
    assert ends.largest.converged and ends.smallest.converged
    beyond = np.array(ends.smallest.eigenvalues) / eigenvalues[-1]  # zero up to the tolerance
    assert beyond.min() > -1e-12 and beyond.max() < eigenvalues[1] / eigenvalues[-1] + 1e-3


@pytest.mark.parametrize("number", [1, 30])
def test_the_negative_eigenvalues_of_a_saddle_are_found(number):
    """(u v - 1)^2 c at u = v = 0 has the eigenvalues 2 c and -2 c, though its gradient is 0."""
    factors = torch.linspace(1, 4, number).double()
    objective = objective_at(
        [0.0] * 2 * number, lambda w: factors * (w[:, :number] * w[:, number:] - 1).square()
    )
    assert objective.gradient()["w"].abs().max() == 0
    ends = extreme_eigenvalues(hessian_operator(objective), 2, tolerance=1e-9)
    assert_ends(ends, np.sort([*2 * factors.numpy(), *-2 * factors.numpy()]))


def double_backward(objective, vector):
    """H v in float64 from two backward passes, batches weighted by their samples."""
    network = deepcopy(objective.network).eval().double()
    weights = [p for p in network.parameters() if p.requires_grad]
    loss = 0.0
    for batch in objective.data:
        inputs, targets = (t.double() if t.is_floating_point() else t for t in batch)
        loss = loss + objective.criterion(network(inputs), targets) * len(inputs)
    gradients = torch.autograd.grad(loss / objective.num_samples, weights, create_graph=True)
    along = torch.cat([g.flatten() for g in gradients]) @ torch.from_numpy(vector)
    return torch.cat([row.flatten() for row in torch.autograd.grad(along, weights)]).numpy()


@pytest.mark.parametrize("model", MODELS)
def test_products_of_every_configured_network(model):
    objective = configured_objective(model)
    before = Snapshot(objective.network)
    operator = hessian_operator(objective)
    vector = np.random.default_rng(0).standard_normal(operator.shape[0])
    expected = double_backward(objective, vector)
    in_float64 = hessian_operator(objective, dtype=torch.float64)
    assert np.abs(in_float64 @ vector - expected).max() < 1e-9 * np.abs(expected).max()
    error = np.abs(operator @ vector - expected).max()
    assert 0 < error < 1e-3 * np.abs(expected).max()
    precisions = [operator.precision, in_float64.precision]
    assert precisions == [torch.finfo(dtype).eps for dtype in (torch.float32, torch.float64)]
    before.assert_unchanged()


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_samples_count_the_same_whatever_the_batches_and_the_declared_reduction(kind):
    network = make_network()
    whole = hessian_operator(make_objective(network), kind)
    vector = np.random.default_rng(0).standard_normal(whole.shape[0])
    for size, reduction in ((5, "sum"), (1, "none")):
        mean = nn.CrossEntropyLoss(reduction=reduction)
        mean.forward = nn.functional.cross_entropy
        other = hessian_operator(Objective(network, mean, make_data(batch_size=size)), kind)
        assert other @ vector == pytest.approx(whole @ vector, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("make", [RelaxedGCNN, E2CNN, RelaxedGCNNForecaster])
def test_frozen_parameters_are_left_out(make):
    """Also where they are all of a layer, whose kernel then is kept from product to product."""
    objective = small_objective(make)
    weights = objective.weights()
    getattr(objective.network, "net", objective.network).blocks[0].requires_grad_(False)
    operator = hessian_operator(objective)
    assert operator.shape[0] == sum(w.numel() for w in objective.weights().values())
    assert 0 < len(objective.weights()) < len(weights)
    for seed in range(2):
        vector = np.random.default_rng(seed).standard_normal(operator.shape[0])
        expected = double_backward(objective, vector)
        assert operator @ vector == pytest.approx(expected, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_the_operator_stays_with_the_weights_of_when_it_was_made(mode):
    """Gradients may be off, as in the validation loop of a trainer."""
    vector = np.ones(hessian_operator(make_objective()).shape[0])
    expected, network = hessian_operator(make_objective()) @ vector, make_network()
    with mode():
        operator = hessian_operator(make_objective(network))
        network[0].weight.mul_(2)
        assert np.array_equal(operator @ vector, expected)
        assert not np.allclose(hessian_operator(make_objective(network)) @ vector, expected)


def test_errors():
    network = make_network()
    with pytest.raises(ValueError, match="`kind` must be one of hessian, gauss_newton; got 'fish"):
        hessian_operator(make_objective(network), "fisher")
    network[0].weight.data[0] = torch.nan
    with pytest.raises(ValueError, match="products of the Hessian must be finite"):
        extreme_eigenvalues(hessian_operator(make_objective(network)))


def test_what_does_not_fit_is_made_again_for_each_product(monkeypatch):
    """Of batches of 5, 5 and 3 samples as many are kept as fit; products stay the same."""
    vector = np.random.default_rng(0).standard_normal(hessian_operator(make_objective()).shape[0])
    expected = hessian_operator(make_objective()) @ vector
    operator = hessian_operator(make_objective(batch_size=5))
    assert operator @ vector == pytest.approx(expected, rel=1e-9, abs=1e-13)
    of_batches = operator.multiply.__self__
    assert list(of_batches.kept) == [0, 1, 2]
    bytes_per_sample = hessian.KEPT_BYTES / of_batches.most_kept
    assert 8 * 4 * 36 < bytes_per_sample < 1e6  # more than one feature map
    for samples, kept in ((4, []), (12, [0, 1])):
        monkeypatch.setattr(hessian, "KEPT_BYTES", samples * bytes_per_sample)
        operator = hessian_operator(make_objective(batch_size=5))
        for _ in range(2):
            assert operator @ vector == pytest.approx(expected, rel=1e-9, abs=1e-13)
        assert list(operator.multiply.__self__.kept) == kept


class WithUnused(nn.Sequential):
    """A network with a layer, the last one, that does not run."""

    def forward(self, x):
        return nn.Sequential(*self[:-1])(x)


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_products_are_zero_where_there_is_no_curvature(kind):
    """Of parameters that the loss does not depend on, and of a loss that is linear."""
    network = WithUnused(*make_network(), nn.Linear(2, 2).double())
    operator = hessian_operator(make_objective(network), kind)
    product = operator @ np.ones(operator.shape[0])
    assert product[:-6].all() and not product[-6:].any()
    assert not (hessian_operator(objective_at([1.0, 2.0], lambda w: w), kind) @ np.ones(2)).any()
