import math
from functools import partial

import pytest
import torch
from torch import nn

from src.measures import (
    PathPoint,
    Subject,
    equivariance_error,
    probes,
    relaxed_weight_errors,
)
from src.measures.lie_derivative import lie_derivatives
from src.measures.sharpness import sharpness
from src.models.classification_module import ClassificationModule
from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.forecasters import RelaxedGCNNForecaster
from src.models.forecasting_module import ForecastingModule

SMALL = {"hidden_channels": 2, "num_layers": 2, "pool_after": [1], "num_classes": 3}
OPTIMIZER = partial(torch.optim.SGD, lr=0.1)


def classifier(make=RelaxedGCNN, **options):
    torch.manual_seed(0)
    return ClassificationModule(make(**SMALL, **options), OPTIMIZER, num_classes=3)


def forecaster():
    torch.manual_seed(0)
    net = RelaxedGCNNForecaster(num_inputs=2, hidden_channels=2, num_layers=3)
    return ForecastingModule(net, OPTIMIZER, num_inputs=2)


def digits(batch=6, size=8):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (batch,), generator=generator)
    return torch.randn(batch, 1, size, size, generator=generator), labels


def windows(batch=3):
    return torch.randn(batch, 4, 2, 6, 6, generator=torch.Generator().manual_seed(0))


def relax(module):
    """Move the relaxed weights apart."""
    for layer in module.modules():
        if hasattr(layer, "relaxed_weights"):
            nn.init.uniform_(layer.relaxed_weights)
    return module


def subject_of(module, *batches, **options):
    return Subject(module, list(batches), **options)


def test_equivariance_error_of_the_networks_own_group_and_kinds():
    module, (images, labels) = relax(classifier(group="d2")), digits()
    reading = probes.equivariance_error(subject_of(module, (images, labels)))
    expected = equivariance_error(module.net, [images], "d2")
    assert reading.values["equivariance_error"] == expected > 0
    assert set(reading.values) == {
        "equivariance_error",
        "equivariance_error/blocks.0",
        "equivariance_error/blocks.1",
    }
    module, window = relax(forecaster()), windows()
    module.velocity_scale.fill_(2.0)
    reading = probes.equivariance_error(subject_of(module, window), per_layer=False)
    inputs = window[:, :2].flatten(1, 2) / 2
    expected = equivariance_error(module.net, [inputs], "c4", input="vector", output="vector")
    assert reading.values == {"equivariance_error": pytest.approx(expected)}


def test_equivariance_error_of_networks_without_a_group():
    module, batch = classifier(CNN), digits()
    reading = probes.equivariance_error(subject_of(module, batch), fallback_group="c2")
    assert reading.details == {"group": "c2"}


def test_angles_give_a_curve_with_its_floor():
    reading = probes.equivariance_error(subject_of(classifier(GCNN), digits()), angles=8)
    curve = reading.details["angles"]
    assert curve["degrees"] == [0, 45, 90, 135, 180, 225, 270, 315]
    assert curve["errors"][0] == curve["floors"][0] == 0
    assert max(curve["errors"][2::2]) < 1e-5 < min(curve["errors"][1::2])
    assert max(curve["floors"][2::2]) == 0 < min(curve["floors"][1::2])
    assert "equivariance_error_floor" not in reading.values
    finer = probes.equivariance_error(
        subject_of(classifier(GCNN), digits()), group="c8", per_layer=False
    )
    assert finer.values["equivariance_error_floor"] > 0


def test_lie_derivative_of_every_transformation():
    module, (images, labels) = relax(classifier()), digits()
    values = probes.lie_derivative(subject_of(module, (images, labels))).values
    for name, transformation in (
        ("lie_derivative", "rotation"),
        ("lie_derivative_translation_x", "translation_x"),
        ("lie_derivative_translation_y", "translation_y"),
    ):
        found = lie_derivatives(module.net, [images], transformation)
        assert values[name] == found.overall
        assert values[f"{name}_relative"] == found.relative
        assert values[f"{name}/blocks.1"] == found.per_layer["blocks.1"]
        assert values[f"{name}_floor"] < 1e-5 < values[name]
    brief = probes.lie_derivative(
        subject_of(module, (images, labels)), transformations=["rotation"], per_layer=False
    ).values
    assert brief == {
        n: pytest.approx(values[n], abs=1e-6)
        for n in ("lie_derivative", "lie_derivative_relative", "lie_derivative_floor")
    }


@pytest.mark.parametrize(("module", "batch"), [(classifier(), digits()), (forecaster(), windows())])
def test_sharpness_on_every_scale(module, batch):
    subject = subject_of(module, batch)
    reading = probes.sharpness(subject, radii=[0.1, 0.2], num_directions=3, seed=4)
    generator = torch.Generator().manual_seed(4)
    expected = sharpness(subject.objective(), [0.1, 0.2], num_directions=3, generator=generator)
    assert reading.values["sharpness"] == expected.value
    assert reading.values["sharpness_standard_error"] == expected.standard_error
    assert reading.details["absolute"]["changes"] == expected.values_per_radius.tolist()
    assert set(reading.details) == {"absolute", "relative", "filter"}
    assert all(math.isfinite(value) for value in reading.values.values())
    less = probes.sharpness(
        subject,
        radii=[0.1],
        relative_radii=[],
        filter_radii=[],
        worst_case_radius=None,
        num_directions=1,
    )
    assert set(less.values) == {"sharpness"}


def test_landscape_of_a_path():
    module, batch = classifier(), digits()
    states = []
    for seed in range(3):
        torch.manual_seed(seed)
        states.append(
            {
                n: t + 0.1 * torch.randn_like(t) if t.is_floating_point() else t.clone()
                for n, t in module.net.state_dict().items()
            }
        )
    path = [PathPoint(state, float(i), 10 * i) for i, state in enumerate(states)]
    for state in states:
        for name in state:
            if name.endswith("running_var"):
                state[name] = state[name].abs()
    reading = probes.landscape(
        subject_of(module, batch, path=lambda: path), resolution=3, line_points=4
    )
    assert reading.values["path_explained_variance"] == pytest.approx(1.0)
    details = reading.details
    assert details["steps"] == [0, 10, 20]
    assert len(details["plane"]["losses"]) == 3
    assert details["line"]["losses"][0] == pytest.approx(details["path_losses"][0], rel=1e-5)
    assert details["line"]["losses"][-1] == pytest.approx(details["path_losses"][-1], rel=1e-5)
    highest = max(details["line"]["losses"])
    ends = max(details["line"]["losses"][0], details["line"]["losses"][-1])
    assert reading.values["path_barrier"] == pytest.approx(highest - ends)


def test_landscape_without_a_path():
    with pytest.raises(ValueError, match="a path must have at least two points; got 0"):
        probes.landscape(subject_of(classifier(), digits()), resolution=3)


def test_symmetry_with_and_without_scores():
    module, batch = relax(classifier()), digits()
    weights = module.net.blocks[0][0].relaxed_weights

    def score():
        return {"test/acc": float(module.net.blocks[0][0].relaxed_weight_error())}

    reading = probes.symmetry(subject_of(module, batch, score=score))
    before = relaxed_weight_errors(module.net)["blocks.0.0"].item()
    assert reading.values["projection/test/acc"] == 0.0
    assert reading.values["projection_change/test/acc"] == pytest.approx(-before)
    assert 0 < reading.values["symmetric_fraction"] < 1
    layer = reading.details["layers"]["blocks.0.0"]
    assert len(layer["over_group"]["differences"]) == weights.shape[1]
    plain = probes.symmetry(subject_of(module, batch))
    assert not any(name.startswith("projection") for name in plain.values)


def test_symmetry_of_a_network_that_is_not_relaxed():
    reading = probes.symmetry(subject_of(classifier(CNN), digits()))
    assert (reading.values, reading.details) == ({}, {"reason": "CNN has no relaxed layer"})


@pytest.mark.parametrize("name", ["equivariance_error", "lie_derivative", "sharpness", "hessian"])
@pytest.mark.parametrize("compiled", [False, True])
def test_nothing_of_the_module_changes(name, compiled):
    module, batch = relax(classifier()), digits()
    module.train()
    module.net.blocks[0].eval()
    if compiled:
        module.net.compile(backend="eager")
    modes = [m.training for m in module.modules()]
    state = {n: t.clone() for n, t in module.state_dict().items()}
    rng = torch.get_rng_state()
    options = (
        {"num_eigenvalues": 1, "num_probes": 2, "lanczos_steps": 3} if name == "hessian" else {}
    )
    getattr(probes, name)(subject_of(module, batch), **options)
    assert [m.training for m in module.modules()] == modes
    assert all(torch.equal(t, state[n]) for n, t in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(torch.get_rng_state(), rng)
    assert module.net._compiled_call_impl is None or compiled


def test_a_module_without_a_loss_says_so():
    module = nn.Module()
    module.net = CNN(**SMALL)
    with pytest.raises(TypeError, match="needs a module with a method `objective`"):
        probes.sharpness(subject_of(module, digits()))
