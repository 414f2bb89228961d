import copy
import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from src.measures import Objective
from src.measures.density import spectral_density, trace
from src.measures.hessian import hessian_operator, hessian_spectrum
from src.measures.krylov import random_signs
from src.measures.spectrum import extreme_eigenvalues
from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.e2cnn import E2CNN
from src.models.components.e2forecasters import E2CNNForecaster, RelaxedSteerableForecaster
from src.models.components.forecasters import (
    CNNForecaster,
    GCNNForecaster,
    RelaxedGCNNForecaster,
    RelaxedTranslationForecaster,
)
from src.models.components.rollout import Rollout
from tests.helpers.dense_hessian import dense_gauss_newton, dense_hessian
from tests.helpers.objectives import (
    MODELS,
    Point,
    Snapshot,
    bowl,
    configured_objective,
    make_data,
    make_network,
    make_objective,
    scramble,
)

SMALL_CLASSIFIER = {"num_classes": 3, "hidden_channels": 1, "num_layers": 2, "pool_after": [1]}
SMALL_FORECASTER = {"num_inputs": 2, "hidden_channels": 1, "num_layers": 3}


def classifier(make, group=None, kernel_size=3):
    """Cross-entropy of a classifier of few weights, on batches of unequal size."""
    torch.manual_seed(0)
    options = {} if group is None else {"group": group}
    network = make(kernel_size=kernel_size, **options, **SMALL_CLASSIFIER).double()
    scramble(network)
    return make_objective(network, number=5, batch_size=3, classes=3)


def forecaster(make, options):
    """Squared error of two forecasts by a network of few weights, on unequal batches."""
    torch.manual_seed(0)
    network = make(**options, **SMALL_FORECASTER).double()
    scramble(network)
    data = [(torch.randn(n, 2, 2, 6, 6), torch.randn(n, 2, 2, 6, 6)) for n in (2, 1)]
    data = [(known.double(), truth.double()) for known, truth in data]
    return Objective(Rollout(network, horizon=2), nn.MSELoss(), data)


def classifier_cases():
    for make, group, size in [
        *product([CNN], [None], (3, 5, 7)),
        *product([GCNN, RelaxedGCNN, E2CNN], ["c4", "c8"], (3, 5, 7)),
    ]:
        yield f"{make.__name__}-{group}-{size}", classifier, (make, group, size)


def forecaster_cases():
    for make, options in [
        (CNNForecaster, {}),
        (GCNNForecaster, {}),
        (GCNNForecaster, {"group": "c8", "kernel_size": 5}),
        (RelaxedGCNNForecaster, {"group_biases": True}),
        (RelaxedGCNNForecaster, {"group": "c8"}),
        (E2CNNForecaster, {}),
        (E2CNNForecaster, {"group": "c8", "kernel_size": 5, "norm": "batch"}),
        (RelaxedSteerableForecaster, {}),
        (RelaxedTranslationForecaster, {"grid_size": (6, 6)}),
    ]:
        name = "-".join([make.__name__, *map(str, options.values())])
        yield name, forecaster, (make, options)


def marked(case):
    name, *values = case
    quick = name == "CNN-None-3"
    return pytest.param(*values, id=name, marks=() if quick else pytest.mark.slow)


CASES = [marked(case) for case in (*classifier_cases(), *forecaster_cases())]


def assert_ends(ends, eigenvalues):
    scale = np.abs(eigenvalues).max()
    expected = {"largest": eigenvalues[::-1], "smallest": eigenvalues}
    for name, values in expected.items():
        end = getattr(ends, name)
        assert end.converged
        number = len(end.eigenvalues)
        assert end.eigenvalues == pytest.approx(values[:number], rel=1e-4, abs=1e-9 * scale)


def assert_trace(estimate, matrix, seed):
    size = len(matrix)
    probes = list(random_signs(size, estimate.num_probes, np.random.default_rng(seed)))
    samples = [v @ matrix @ v for v in probes]
    assert estimate.value == pytest.approx(np.mean(samples), rel=1e-4)
    assert abs(estimate.value - np.trace(matrix)) < 5 * estimate.standard_error


def assert_density(density, matrix, seed):
    """Moments and distribution are those that the probes have in the dense spectrum.

    With fewer steps than eigenvalues the distribution is known up to the weights of nodes.
    """
    values, vectors = np.linalg.eigh(matrix)
    probes = random_signs(len(matrix), density.num_probes, np.random.default_rng(seed))
    weights = ((np.stack(list(probes)) @ vectors) ** 2).mean(0) / len(matrix)
    nodes, got = np.array(density.nodes), np.array(density.weights)
    scale = np.abs(values).max()
    resolution = 1e-4 if len(nodes) == 2 * len(matrix) else 0.03
    for power in range(1, 7):
        moment = (got * (nodes / scale) ** power).sum()
        expected = (weights * (values / scale) ** power).sum()
        assert moment == pytest.approx(expected, rel=1e-4, abs=1e-12)
    for x in scale * np.array([-0.3, -0.1, -0.03, 0.03, 0.1, 0.3]):
        expected = weights[values < x].sum()
        assert got[nodes < x].sum() == pytest.approx(expected, abs=resolution)


@pytest.mark.parametrize(("make", "arguments"), CASES)
def test_ends_trace_and_density_are_those_of_the_dense_hessian(make, arguments):
    objective = make(*arguments)
    matrix = dense_hessian(objective)
    assert np.allclose(matrix, matrix.T, rtol=0, atol=1e-10 * np.abs(matrix).max())
    operator = hessian_operator(objective)
    ends = extreme_eigenvalues(operator, tolerance=1e-8)
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert eigenvalues[0] < -1e-3 * eigenvalues[-1]  # both signs occur
    assert_ends(ends, eigenvalues)
    assert_trace(trace(operator, 5, seed=1), matrix, seed=1)
    assert_density(spectral_density(operator, 2, 50, seed=2), matrix, seed=2)


@pytest.mark.parametrize(("make", "arguments"), CASES)
def test_products_with_the_gauss_newton_matrix(make, arguments):
    objective = make(*arguments)
    matrix = dense_gauss_newton(objective)
    operator = hessian_operator(objective, "gauss_newton")
    vectors = np.random.default_rng(0).standard_normal((len(matrix), 3))
    expected = matrix @ vectors
    assert np.abs(operator @ vectors - expected).max() < 1e-10 * np.abs(expected).max()
    ends = extreme_eigenvalues(operator, 2, tolerance=1e-3)
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert ends.largest.eigenvalues == pytest.approx(eigenvalues[:-3:-1], rel=1e-4)
    assert ends.largest.converged and ends.smallest.converged
    beyond = np.array(ends.smallest.eigenvalues) / eigenvalues[-1]  # zero up to the tolerance
    assert beyond.min() > -1e-12 and beyond.max() < eigenvalues[1] / eigenvalues[-1] + 1e-3


def double_backward(objective, vector):
    """H v in float64 from two backward passes, batches weighted by their samples."""
    network = copy.deepcopy(objective.network).eval().double()
    weights = [p for p in network.parameters() if p.requires_grad]
    loss = sum(
        objective.criterion(
            network(inputs.double()), targets.double() if targets.is_floating_point() else targets
        )
        * len(inputs)
        for inputs, targets in objective.data
    )
    gradients = torch.autograd.grad(loss / objective.num_samples, weights, create_graph=True)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    rows = torch.autograd.grad(flat @ torch.from_numpy(vector), weights)
    return torch.cat([row.flatten() for row in rows]).numpy()


@pytest.mark.parametrize("model", MODELS)
def test_products_of_every_configured_network(model):
    objective = configured_objective(model)
    before = Snapshot(objective.network)
    operator = hessian_operator(objective)
    vector = np.random.default_rng(0).standard_normal(operator.shape[0])
    expected = double_backward(objective, vector)
    in_float64 = hessian_operator(objective, dtype=torch.float64) @ vector
    assert np.abs(in_float64 - expected).max() < 1e-9 * np.abs(expected).max()
    error = np.abs(operator @ vector - expected).max()
    assert 0 < error < 1e-3 * np.abs(expected).max()
    before.assert_unchanged()


def test_a_quadratic_loss_has_the_hessian_of_its_closed_form():
    curvatures = [3.0, -0.5, 0.0, 2.0]
    objective = bowl([1.0, -2.0, 0.3, 4.0], curvatures)
    assert np.array_equal(hessian_operator(objective) @ np.eye(4), np.diag(curvatures))
    result = hessian_spectrum(objective, num_eigenvalues=2, num_probes=3, lanczos_steps=4)
    assert result.ends.largest.eigenvalues == pytest.approx([3.0, 2.0], rel=1e-14)
    assert result.ends.smallest.eigenvalues == pytest.approx([-0.5, 0.0], rel=1e-14, abs=1e-14)
    assert (result.trace.value, result.trace.standard_error) == (4.5, 0.0)
    assert result.density.nodes == pytest.approx(sorted(3 * curvatures), rel=1e-12, abs=1e-13)
    assert result.density.weights == pytest.approx([1 / 12] * 12)
    assert result.density.negative_fraction == pytest.approx(1 / 4)


def test_linear_regression_has_twice_the_covariance_of_its_inputs():
    torch.manual_seed(0)
    x, y = torch.randn(40, 30).double(), torch.randn(40, 1).double()
    objective = Objective(nn.Linear(30, 1, bias=False).double(), nn.MSELoss(), [(x, y)])
    expected = np.linalg.eigvalsh((2 * x.T @ x / 40).numpy())
    for kind in ("hessian", "gauss_newton"):
        ends = extreme_eigenvalues(hessian_operator(objective, kind), tolerance=1e-9)
        assert ends.largest.eigenvalues == pytest.approx(expected[::-1][:5], rel=1e-10)
        assert ends.smallest.eigenvalues == pytest.approx(expected[:5], rel=1e-8)


class PairProducts(nn.Module):
    """L = sum_i c_i (u_i v_i - 1)^2 of weights (u, v): a linear model of two layers for each i.

    At u = v = 0 it is a saddle: the Hessian has the eigenvalues 2 c_i and -2 c_i.
    """

    def __init__(self, *factors):
        super().__init__()
        self.factors = torch.tensor(factors, dtype=torch.float64)

    def forward(self, outputs, targets):
        u, v = outputs.chunk(2, 1)
        return (self.factors * (u * v - 1).square()).sum(1).mean()


def saddle(number):
    factors = np.linspace(1, 4, number)
    data = [(torch.zeros(1, 1), torch.zeros(1))]
    return Objective(Point(*[0.0] * 2 * number), PairProducts(*factors), data)


@pytest.mark.parametrize("number", [1, 4, 30])
def test_the_negative_eigenvalues_of_a_saddle_are_found(number):
    """They are as large as the positive ones; the gradient there is zero."""
    objective = saddle(number)
    assert objective.gradient()["w"].abs().max() == 0
    expected = 2 * np.linspace(1, 4, number)[::-1]
    ends = extreme_eigenvalues(hessian_operator(objective), 2, tolerance=1e-9)
    signed = np.sort([*expected, *-expected])
    assert ends.largest.eigenvalues == pytest.approx(signed[::-1][:2], rel=1e-12)
    assert ends.smallest.eigenvalues == pytest.approx(signed[:2], rel=1e-12)


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_samples_count_the_same_in_batches_of_any_size(kind):
    network = make_network()
    whole, *others = (
        hessian_operator(make_objective(network, batch_size=size), kind) for size in (13, 5, 1)
    )
    vector = np.random.default_rng(0).standard_normal(whole.shape[0])
    for other in others:
        assert other @ vector == pytest.approx(whole @ vector, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_the_criterion_is_taken_as_the_mean_that_it_computes(reduction):
    """Whatever it declares; weights per class leave it a mean."""

    class Mean(nn.CrossEntropyLoss):
        def forward(self, predictions, targets):
            return nn.functional.cross_entropy(predictions, targets)

    network, data = make_network(), make_data(13, batch_size=5)
    declared = Objective(network, Mean(reduction=reduction), data)
    vector = np.ones(hessian_operator(declared).shape[0])
    expected = hessian_operator(make_objective(network, batch_size=5)) @ vector
    assert np.array_equal(hessian_operator(declared) @ vector, expected)


@pytest.mark.parametrize("make", [RelaxedGCNN, E2CNN])
@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_frozen_parameters_are_left_out(make, kind):
    """Also where they are all of a layer, whose kernel then is kept from product to product."""
    objective = classifier(make, "c4")
    dense = {"hessian": dense_hessian, "gauss_newton": dense_gauss_newton}[kind]
    names = list(objective.weights())
    sizes = [w.numel() for w in objective.weights().values()]
    matrix = dense(objective)
    objective.network.blocks[0].requires_grad_(False)
    kept = np.repeat([name in objective.weights() for name in names], sizes)
    operator = hessian_operator(objective, kind)
    assert operator.shape[0] == kept.sum() < len(matrix)
    for seed in range(3):
        vector = np.random.default_rng(seed).standard_normal(kept.sum())
        expected = matrix[kept][:, kept] @ vector
        assert operator @ vector == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_a_frozen_layer_of_a_forecaster():
    """Its kernel is built once for both steps of the rollout."""
    objective = forecaster(GCNNForecaster, {})
    objective.network.net.blocks[1].requires_grad_(False)
    operator = hessian_operator(objective)
    for seed in range(2):
        vector = np.random.default_rng(seed).standard_normal(operator.shape[0])
        expected = double_backward(objective, vector)
        assert operator @ vector == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_too_few_iterations_are_reported():
    objective = make_objective()
    options = {"num_probes": 2, "lanczos_steps": 2, "tolerance": 1e-10}
    ends = hessian_spectrum(objective, max_iterations=1, **options).ends
    assert not (ends.largest.converged and ends.smallest.converged)
    assert len(ends.largest.eigenvalues + ends.smallest.eigenvalues) < 10
    assert max([0, *ends.largest.residuals, *ends.smallest.residuals]) < 1e-10


def test_the_result_is_that_of_the_parts_and_goes_into_json():
    calls = []
    objective = make_objective()
    options = {"num_eigenvalues": 2, "num_probes": 3, "lanczos_steps": 4}
    result = hessian_spectrum(objective, **options, seed=5, progress=lambda: calls.append(None))
    operator = hessian_operator(objective)
    assert result.ends == extreme_eigenvalues(operator, 2, seed=5)
    assert result.trace == trace(operator, 3, seed=5)
    assert result.density == spectral_density(operator, 3, 4, seed=6)
    assert result.num_products == operator.num_products == len(calls)
    assert (result.kind, result.num_samples) == ("hessian", 13)
    assert result.num_parameters == operator.shape[0]
    text = json.dumps(result.as_dict(), allow_nan=False)
    assert json.loads(text)["ends"]["largest"]["eigenvalues"] == result.ends.largest.eigenvalues


def test_seeds_reproduce():
    options = {"num_eigenvalues": 1, "num_probes": 2, "lanczos_steps": 3}
    first, again, other = (
        hessian_spectrum(make_objective(), **options, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first.trace != other.trace
    assert first.density.nodes != other.density.nodes
    largest = other.ends.largest.eigenvalues
    assert first.ends.largest.eigenvalues == pytest.approx(largest, rel=1e-3)


def test_nothing_changes_in_the_network():
    network = make_network(torch.float32)
    network[3].eval()  # modes may differ
    before = Snapshot(network)
    objective = make_objective(network, dtype=torch.float32)
    for dtype in (None, torch.float64):
        options = {"num_eigenvalues": 1, "num_probes": 2, "lanczos_steps": 2}
        hessian_spectrum(objective, **options, dtype=dtype)
    before.assert_unchanged()
    assert all(inputs.dtype == torch.float32 for inputs, _ in objective.data)


def test_the_operator_stays_with_the_weights_of_when_it_was_made():
    network = make_network()
    operator = hessian_operator(make_objective(network))
    vector = np.ones(operator.shape[0])
    expected = operator @ vector
    with torch.no_grad():
        network[0].weight.mul_(2)
    assert np.array_equal(operator @ vector, expected)
    assert not np.allclose(hessian_operator(make_objective(network)) @ vector, expected)


def test_precision_follows_the_dtype():
    objective = make_objective(make_network(torch.float32), dtype=torch.float32)
    single, double = (hessian_operator(objective, dtype=d) for d in (None, torch.float64))
    assert single.precision == pytest.approx(1.2e-7, rel=0.01)
    assert double.precision == pytest.approx(2.2e-16, rel=0.01)
    vector = np.ones(single.shape[0])
    exact = double @ vector
    error = np.abs(single @ vector - exact).max()
    assert 0 < error < 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_gradients_may_be_off(mode):
    """As in the validation loop of a trainer."""
    vector = np.ones(hessian_operator(make_objective()).shape[0])
    expected = hessian_operator(make_objective()) @ vector
    network = make_network()
    with mode():
        operator = hessian_operator(make_objective(network))
        assert np.array_equal(operator @ vector, expected)


def test_a_compiled_network_is_measured_as_written():
    vector = np.ones(hessian_operator(make_objective()).shape[0])
    expected = hessian_operator(make_objective()) @ vector
    network = make_network()
    network.compile(backend=lambda graph, inputs: pytest.fail("compiled"))
    network[0].compile(backend=lambda graph, inputs: pytest.fail("compiled"))
    assert np.array_equal(hessian_operator(make_objective(network)) @ vector, expected)
    assert network._compiled_call_impl is not None


def test_weights_that_are_not_finite():
    network = make_network()
    with torch.no_grad():
        network[0].weight[0] = torch.nan
    with pytest.raises(ValueError, match="products of the Hessian must be finite"):
        hessian_spectrum(make_objective(network))


def test_an_unknown_kind():
    with pytest.raises(ValueError, match="`kind` must be one of hessian, gauss_newton; got 'fish"):
        hessian_operator(make_objective(), "fisher")


def test_without_curvlinops(monkeypatch):
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    with pytest.raises(ImportError, match=r"curvlinops-for-pytorch.*`pip install -e .*curvature"):
        hessian_operator(make_objective())


@pytest.mark.slow
def test_no_warning_on_first_use():
    """Neither the import of curvlinops nor torch's forward mode may warn; in a fresh process."""
    script = (
        "import torch\n"
        "from src.measures.hessian import hessian_operator\n"
        "assert 'curvlinops' not in __import__('sys').modules\n"
        "from tests.helpers.objectives import make_objective\n"
        "operator = hessian_operator(make_objective())\n"
        "operator.matvec([1.0] * operator.shape[0])\n"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
