import math

import numpy as np
import pytest
import torch
from torch import nn

from src.measures import probes
from src.measures.density import spectral_density
from src.measures.directions import random_directions
from src.measures.hessian import hessian_operator
from src.measures.sharpness import (
    expected_from_curvature,
    expected_from_gradient,
    sharpness_along,
    typical_steps,
    worst_case_sharpness,
)
from src.measures.spectrum import extreme_eigenvalues
from src.measures.trace import trace
from src.models.components.classifiers import CNN
from tests.helpers.subjects import classifier, forecaster, subject_of


@pytest.mark.parametrize("make", [classifier, pytest.param(forecaster, marks=pytest.mark.slow)])
def test_sharpness_on_every_scale(make):
    subject = subject_of(make())
    objective = subject.objective()
    all_radii = {"absolute": [0.1, 0.2], "relative": [0.01], "filter": [0.01]}
    options = {"radii": [0.1, 0.2], "relative_radii": [0.01], "filter_radii": [0.01]}
    options |= {"num_directions": 3, "max_products": 30, "seed": 4}
    reading = probes.sharpness(subject, **options)
    assert worst_case_sharpness(objective, 0.01) == reading.values["sharpness_worst_case"]
    operator, gradient = hessian_operator(objective), objective.gradient()
    for scale, radii in all_radii.items():
        generator = torch.Generator().manual_seed(4)
        directions = random_directions(objective.weights(), 3, generator)
        expected = sharpness_along(objective, radii, directions, scale=scale)
        name = "sharpness" if scale == "absolute" else f"sharpness_{scale}"
        for kind, end in (("absolute", ""), ("symmetric", "_curvature")):
            mean, full = getattr(expected, kind), f"{name}{end}"
            assert reading.values[full] == mean.value != 0
            assert reading.values[f"{full}_standard_error"] == mean.standard_error
            assert reading.details[scale][kind] == mean.per_radius.tolist()
        steps, details = typical_steps(objective, scale), reading.details[scale]
        slopes = expected_from_gradient(steps, gradient) * np.array(radii)
        found = expected_from_curvature(operator, steps, max_products=30, seed=4)
        parabola, errors = (part * np.square(radii) for part in found)
        ends = {"from_gradient": slopes, "curvature_from_trace": parabola}
        ends["curvature_from_trace_standard_error"] = errors
        for end, values in ends.items():
            assert reading.values[f"{name}_{end}"] == pytest.approx(values.mean(), rel=1e-5)
        assert details["from_gradient"] == pytest.approx(slopes)
        assert details["from_trace"] == pytest.approx(parabola, rel=1e-5)
    less = probes.sharpness(subject, worst_case_radius=None, num_directions=1)
    assert set(less.values) == {"sharpness", "sharpness_from_gradient", "sharpness_curvature"}


LAYERS = ["blocks.0.0", "blocks.0.1", "blocks.1.0", "blocks.1.1", "head"]
KINDS = ["kernels", "relaxed_weights", "norm", "biases"]


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_hessian_is_that_of_its_parts(kind, caplog):
    subject = subject_of(classifier())
    options = {"num_eigenvalues": 1, "num_probes": 2, "lanczos_steps": 3, "tolerance": 1e-9}
    options |= {
        "max_iterations": 1,
        "trace_tolerance": 0,
        "trace_products": 30,
        "kind": kind,
        "double": kind == "gauss_newton",
        "seed": 5,
    }
    reading = probes.hessian(subject, **options)
    dtype = torch.float64 if options["double"] else None
    operator = hessian_operator(subject.objective(), kind, dtype)
    ends = extreme_eigenvalues(operator, 1, tolerance=1e-9, max_iterations=1, seed=5)
    sizes = [w.numel() for w in subject.objective().weights().values()]
    total = trace(operator, sizes=sizes, tolerance=0, max_products=30, seed=5)
    density = spectral_density(operator, 2, 3, seed=6)
    for name, end in (("max", ends.largest), ("min", ends.smallest)):
        assert reading.values[f"{kind}_{name}_converged"] == end.converged
        assert reading.values.get(f"{kind}_{name}") == next(iter(end.eigenvalues), None)
        assert (f"{kind}_{name}: Lanczos did not converge" in caplog.text) != end.converged
    trace_value, error = total.of()
    assert reading.values[f"{kind}_trace"] == trace_value
    assert reading.values[f"{kind}_trace_standard_error"] == error
    assert reading.values[f"{kind}_trace_relative_error"] == total.relative_error > 0
    assert f"{kind}_trace: its standard error is" in caplog.text
    for start, ends in (("", LAYERS), ("_by_kind", KINDS)):
        parts = {n: v for n, v in reading.values.items() if n.startswith(f"{kind}_trace{start}/")}
        assert [n.partition("/")[2] for n in parts] == ends
        assert sum(parts.values()) == pytest.approx(trace_value)
        errors = [reading.values[f"{kind}_trace{start}_standard_error/{end}"] for end in ends]
        assert max(errors) > 0
    assert reading.values[f"{kind}_negative_fraction"] == density.negative_fraction
    assert reading.details["density"]["nodes"] == density.nodes
    sizes = (operator.shape[0], 6, operator.num_products)
    names = ("num_parameters", "num_samples", "num_products")
    assert tuple(reading.details[name] for name in names) == sizes


class Scaled(CNN):
    def __init__(self, **options):
        super().__init__(**options)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return super().forward(x) * self.scale


def test_a_parameter_of_the_network_itself_is_a_layer_of_its_name():
    module = classifier(Scaled)
    options = {"num_eigenvalues": 1, "num_probes": 2, "lanczos_steps": 2, "trace_products": 30}
    values = probes.hessian(subject_of(module), **options).values
    whole, error = values["hessian_trace"], values["hessian_trace_standard_error"]
    assert values["hessian_trace_relative_error"] == pytest.approx(error / abs(whole))
    assert values["hessian_trace/scale"] != 0
    assert not any(name.endswith("/") for name in values)


def test_curvature_where_training_has_diverged_is_nan():
    module = classifier()
    nn.init.constant_(next(module.net.parameters()), torch.inf)
    reading = probes.hessian(subject_of(module), num_eigenvalues=1, num_probes=1, lanczos_steps=2)
    assert set(reading.values) == {"hessian_max", "hessian_min", "hessian_trace"}
    assert all(math.isnan(value) for value in reading.values.values())
    assert "must be finite" in reading.details["reason"]
