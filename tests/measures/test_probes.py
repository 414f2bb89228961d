import math
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from src.measures import PathPoint, Subject, equivariance_error, probes, relaxed_weight_errors
from src.measures.density import spectral_density, trace
from src.measures.directions import random_directions
from src.measures.hessian import hessian_operator
from src.measures.lie_derivative import lie_derivatives
from src.measures.sharpness import sharpness_along, worst_case_sharpness
from src.measures.spectrum import extreme_eigenvalues
from src.models.classification_module import ClassificationModule
from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.forecasters import RelaxedGCNNForecaster
from src.models.components.gcnn.relaxation import relaxed_layers
from src.models.forecasting_module import ForecastingModule
from tests.helpers.measured import VECTORS, images
from tests.helpers.objectives import Snapshot, draw_everything

SMALL = {"hidden_channels": 2, "num_layers": 2, "pool_after": [1], "num_classes": 3}
OPTIMIZER = partial(torch.optim.SGD, lr=0.1)


def classifier(make=RelaxedGCNN, **options):
    torch.manual_seed(0)
    return relax(ClassificationModule(make(**SMALL, **options), OPTIMIZER))


def forecaster():
    torch.manual_seed(0)
    net = RelaxedGCNNForecaster(num_inputs=2, hidden_channels=2, num_layers=3)
    return relax(ForecastingModule(net, OPTIMIZER, num_inputs=2))


def relax(module):
    """Move the relaxed weights apart."""
    for layer in relaxed_layers(module).values():
        nn.init.uniform_(layer.relaxed_weights)
    return module


DIGITS = (images(6, 1, 8).float(), torch.tensor([0, 1, 2, 2, 1, 1]))
WINDOWS = images(3, 8, 6).float().unflatten(1, (4, 2))


def subject_of(module, **options):
    batch = WINDOWS if isinstance(module, ForecastingModule) else DIGITS
    return Subject(module, [batch], **options)


def test_equivariance_error_of_the_networks_own_group_and_kinds():
    module = classifier(group="d2")
    values = probes.equivariance_error(subject_of(module)).values
    assert values["equivariance_error"] == equivariance_error(module.net, [DIGITS], "d2") > 0
    layers = ["equivariance_error/blocks.0", "equivariance_error/blocks.1"]
    assert list(values) == ["equivariance_error", *layers]
    module = forecaster()
    module.velocity_scale.fill_(2.0)
    values = probes.equivariance_error(subject_of(module), per_layer=False).values
    inputs = WINDOWS[:, :2].flatten(1, 2) / 2
    expected = equivariance_error(module.net, [inputs], "c4", **VECTORS)
    assert values == {"equivariance_error": pytest.approx(expected)}
    reading = probes.equivariance_error(subject_of(classifier(CNN)), fallback_group="c2")
    assert reading.details == {"group": "c2"}


def test_angles_give_a_curve_with_its_floor():
    subject = subject_of(classifier(GCNN))
    reading = probes.equivariance_error(subject, angles=8)
    curve = reading.details["angles"]
    assert curve["degrees"] == [0, 45, 90, 135, 180, 225, 270, 315]
    assert curve["errors"][0] == curve["floors"][0] == 0
    assert max(curve["errors"][2::2]) < 1e-5 < min(curve["errors"][1::2])
    assert max(curve["floors"][2::2]) == 0 < min(curve["floors"][1::2])
    assert "equivariance_error_floor" not in reading.values
    finer = probes.equivariance_error(subject, group="c8", per_layer=False).values
    assert finer["equivariance_error_floor"] == pytest.approx(sum(curve["floors"]) / 7)


def test_lie_derivative_of_every_transformation():
    module = classifier()
    values = probes.lie_derivative(subject_of(module)).values
    for suffix in ("", "_translation_x", "_translation_y"):
        name, transformation = f"lie_derivative{suffix}", suffix[1:] or "rotation"
        found = lie_derivatives(module.net, [DIGITS], transformation)
        assert values[name] == found.overall
        assert values[f"{name}_relative"] == found.relative
        assert values[f"{name}/blocks.1"] == found.per_layer["blocks.1"]
        assert values[f"{name}_floor"] < 1e-5 < values[name]
    options = {"transformations": ["rotation"], "per_layer": False}
    brief = probes.lie_derivative(subject_of(module), **options).values
    names = ["lie_derivative", "lie_derivative_relative", "lie_derivative_floor"]
    assert brief == {name: pytest.approx(values[name], abs=1e-6) for name in names}


@pytest.mark.parametrize("make", [classifier, forecaster])
def test_sharpness_on_every_scale(make):
    subject = subject_of(make())
    objective = subject.objective()
    reading = probes.sharpness(subject, radii=[0.1, 0.2], num_directions=3, seed=4)
    assert worst_case_sharpness(objective, 0.01) == reading.values["sharpness_worst_case"]
    for scale, radii in {"absolute": [0.1, 0.2], "relative": [0.01], "filter": [0.01]}.items():
        generator = torch.Generator().manual_seed(4)
        directions = random_directions(objective.weights(), 3, generator)
        expected = sharpness_along(objective, radii, directions, scale=scale)
        name = "sharpness" if scale == "absolute" else f"sharpness_{scale}"
        assert reading.values[name] == expected.value > 0
        assert reading.values[f"{name}_standard_error"] == expected.standard_error
        assert reading.details[scale]["changes"] == expected.values_per_radius.tolist()
    none = {"relative_radii": [], "filter_radii": [], "worst_case_radius": None}
    less = probes.sharpness(subject, radii=[0.1], **none, num_directions=1)
    assert set(less.values) == {"sharpness"}


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_hessian_is_that_of_its_parts(kind, caplog):
    subject = subject_of(classifier())
    options = {"num_eigenvalues": 1, "num_probes": 2, "lanczos_steps": 3, "tolerance": 1e-9}
    options |= {"max_iterations": 1, "kind": kind, "double": kind == "gauss_newton", "seed": 5}
    reading = probes.hessian(subject, **options)
    dtype = torch.float64 if options["double"] else None
    operator = hessian_operator(subject.objective(), kind, dtype)
    ends = extreme_eigenvalues(operator, 1, tolerance=1e-9, max_iterations=1, seed=5)
    total, density = trace(operator, 2, seed=5), spectral_density(operator, 2, 3, seed=6)
    for name, end in (("max", ends.largest), ("min", ends.smallest)):
        assert reading.values[f"{kind}_{name}_converged"] == end.converged
        assert reading.values.get(f"{kind}_{name}") == next(iter(end.eigenvalues), None)
        assert (f"{kind}_{name}: Lanczos did not converge" in caplog.text) != end.converged
    assert reading.values[f"{kind}_trace"] == total.value
    assert reading.values[f"{kind}_trace_standard_error"] == total.standard_error
    assert reading.values[f"{kind}_negative_fraction"] == density.negative_fraction
    assert reading.details["density"]["nodes"] == density.nodes
    sizes = (operator.shape[0], 6, operator.num_products)
    names = ("num_parameters", "num_samples", "num_products")
    assert tuple(reading.details[name] for name in names) == sizes


def path_of(network):
    """Three states, off a straight line."""
    path = []
    for step in range(3):
        state, generator = deepcopy(network.state_dict()), torch.Generator().manual_seed(step)
        for tensor in filter(torch.is_floating_point, state.values()):
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_((tensor + 0.1 * noise).abs())
        path.append(PathPoint(state, float(step), 10 * step))
    return path


def test_landscape_of_a_path():
    module = classifier()
    subject = subject_of(module, path=lambda: path_of(module.net))
    reading = probes.landscape(subject, resolution=3, line_points=4)
    assert reading.values["path_explained_variance"] == pytest.approx(1.0)
    details = reading.details
    assert (details["steps"], details["epochs_trained"]) == ([0, 10, 20], [0, 1, 2])
    assert len(details["plane"]["losses"]) == 3
    losses, own = details["line"]["losses"], details["path_losses"]
    assert [losses[0], losses[-1]] == pytest.approx([own[0], own[-1]], rel=1e-5)
    barrier = max(losses) - max(losses[0], losses[-1])
    assert reading.values["path_barrier"] == pytest.approx(barrier)
    with pytest.raises(ValueError, match="a path must have at least two points; got 0"):
        probes.landscape(subject_of(module), resolution=3)


def test_symmetry_with_and_without_scores():
    module = classifier()
    first = module.net.blocks[0][0]
    subject = subject_of(module, score=lambda: {"test/acc": first.relaxed_weight_error()})
    reading = probes.symmetry(subject)
    before = relaxed_weight_errors(module.net)["blocks.0.0"].item()
    assert reading.values["projection/test/acc"] == 0.0
    assert reading.values["projection_change/test/acc"] == pytest.approx(-before)
    assert 0 < reading.values["symmetric_fraction"] < 1
    layer = reading.details["layers"]["blocks.0.0"]
    assert len(layer["over_group"]["differences"]) == first.group.order
    plain = probes.symmetry(subject_of(module))
    assert not any(name.startswith("projection") for name in plain.values)
    reading = probes.symmetry(subject_of(classifier(CNN)))
    assert (reading.values, reading.details) == ({}, {"reason": "CNN has no relaxed layer"})


class Watched(nn.Module):
    """Changes nothing, but draws at random; fails in train mode, and where gradients are kept."""

    def __init__(self, gradients):
        super().__init__()
        self.gradients = gradients

    def forward(self, x):
        assert not self.training
        assert self.gradients or not torch.is_grad_enabled()
        return x + draw_everything()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("equivariance_error", {}),
        ("lie_derivative", {"transformations": ["rotation"]}),
        ("sharpness", {"num_directions": 2}),
        ("hessian", {"num_eigenvalues": 1, "num_probes": 2, "lanczos_steps": 3}),
        ("landscape", {"resolution": 2, "line_points": 2}),
        ("symmetry", {}),
    ],
)
def test_nothing_of_the_module_changes(name, options):
    """Nor do modes, gradients and random states; compiled networks are measured as written."""
    module = classifier()
    subject = subject_of(module, path=lambda: path_of(module.net))
    expected = getattr(probes, name)(subject, **options)
    module.net.blocks[0].append(Watched(name in ("sharpness", "hessian")))
    module.net.blocks[1][0].eval()  # modes may differ
    module.net.compile(backend=lambda graph, inputs: pytest.fail("compiled"))
    before = Snapshot(module.net)
    assert getattr(probes, name)(subject, **options) == expected
    before.assert_unchanged()
    assert not any(m._forward_hooks or "forward" in vars(m) for m in module.net.modules())
    assert module.net._compiled_call_impl is not None


def test_curvature_where_training_has_diverged_is_nan():
    module = classifier()
    nn.init.constant_(next(module.net.parameters()), torch.inf)
    reading = probes.hessian(subject_of(module), num_eigenvalues=1, num_probes=1, lanczos_steps=2)
    assert set(reading.values) == {"hessian_max", "hessian_min", "hessian_trace"}
    assert all(math.isnan(value) for value in reading.values.values())
    assert "must be finite" in reading.details["reason"]
