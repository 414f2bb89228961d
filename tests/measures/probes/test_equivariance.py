import pytest
import torch

from src.measures import Subject, equivariance_error, probes
from src.measures.lie_derivative import lie_derivatives
from src.measures.published_lie_derivative import published_lie_derivative
from src.models.components.classifiers import CNN, GCNN
from tests.helpers.measured import VECTORS, Function
from tests.helpers.subjects import DIGITS, WINDOWS, classifier, forecaster, subject_of


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


def test_measures_of_a_network_that_forecasts_the_density_are_of_the_velocity():
    module = forecaster(density=True)
    batch = torch.cat([WINDOWS, WINDOWS[:, :, :1].square()], 2)
    subject, inputs = Subject(module, [batch]), batch[:, :2].flatten(1, 2)
    velocity = Function(lambda x: module.net(x)[:, :2])
    kinds = {"input": "vector+scalar", "output": "vector"}
    values = probes.equivariance_error(subject).values
    expected = equivariance_error(velocity, [inputs], "c4", **kinds)
    assert values["equivariance_error"] == pytest.approx(expected, rel=1e-5) and expected > 1e-3
    assert values["equivariance_error/blocks.1"] > 1e-3
    values = probes.lie_derivative(subject, transformations=["rotation"]).values
    found = lie_derivatives(velocity, [inputs], group="c4", **kinds)
    assert values["lie_derivative"] == pytest.approx(found.overall, rel=1e-4)
    assert values["lie_derivative/blocks.1"] > 0


def test_angles_give_a_curve():
    subject = subject_of(classifier(GCNN))
    reading = probes.equivariance_error(subject, angles=8)
    curve = reading.details["angles"]
    assert curve["degrees"] == [0, 45, 90, 135, 180, 225, 270, 315]
    assert curve["errors"][0] == 0
    assert max(curve["errors"][2::2]) < 1e-5 < min(curve["errors"][1::2])
    finer = probes.equivariance_error(subject, group="c8", per_layer=False).values
    assert finer == {"equivariance_error": pytest.approx(sum(curve["errors"]) / 7)}


def test_lie_derivative_of_every_transformation():
    module = classifier()
    values = probes.lie_derivative(subject_of(module), published=True).values
    for suffix in ("", "_translation_x", "_translation_y"):
        name, transformation = f"lie_derivative{suffix}", suffix[1:] or "rotation"
        found = lie_derivatives(module.net, [DIGITS], transformation)
        assert values[name] == found.overall
        assert values[f"{name}_relative"] == found.relative
        assert values[f"{name}/blocks.1"] == found.per_layer["blocks.1"]
        assert values[name] > 1e-5
        assert values[f"{name}_published"] == published_lie_derivative(
            module.net, [DIGITS], transformation
        )
    of_fields = probes.lie_derivative(subject_of(forecaster()), published=True).values
    assert not any(name.endswith("published") for name in of_fields)
    options = {"transformations": ["rotation"], "per_layer": False}
    brief = probes.lie_derivative(subject_of(module), **options).values
    names = ["lie_derivative", "lie_derivative_relative"]
    assert brief == {name: pytest.approx(values[name]) for name in names}
