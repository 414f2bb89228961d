import pytest
import torch

from src.measures import probes
from src.measures.projection import departure_gradients
from src.measures.symmetry import departure
from src.models.components.classifiers import CNN
from src.models.components.gcnn.relaxation import relaxed_by, relaxed_layers
from tests.helpers.subjects import DIGITS, WINDOWS, classifier, forecaster, subject_of


def test_symmetry_of_every_layer():
    module = classifier()
    reading, layers = probes.symmetry(subject_of(module)), relaxed_layers(module.net)
    departures = {f"departure/{name}": departure(layer) for name, layer in layers.items()}
    mean = sum(departures.values()) / len(departures)
    assert reading.values == {"departure": pytest.approx(mean), **departures}
    assert 0 < mean < 100
    layer = reading.details["layers"]["blocks.0.0"]
    assert len(layer["over_group"]["differences"]) == layers["blocks.0.0"].group.order


@pytest.mark.parametrize("name", ["symmetry", "projection"])
def test_without_relaxed_layers_there_is_a_reason(name):
    reading = getattr(probes, name)(subject_of(classifier(CNN)))
    assert (reading.values, reading.details) == ({}, {"reason": "CNN has no relaxed layer"})


@pytest.mark.parametrize("make", [classifier, forecaster])
@pytest.mark.parametrize("with_statistics", [True, False])
def test_projection_with_statistics_of_the_projected_weights(make, with_statistics):
    """Values are those of the network within both contexts."""
    module = make()
    training = [(DIGITS[0][i::2], DIGITS[1][i::2]) for i in (0, 1)]
    if make is forecaster:
        training = [WINDOWS[:2], WINDOWS[2:]]
    statistics = training if with_statistics else []
    subject = subject_of(module, statistics=statistics)
    values = probes.projection(subject).values
    with relaxed_by(module.net, 0.0), subject.reestimated():
        loss = subject.objective().value()
        gradients = departure_gradients(module.net, subject.objective())
    change = loss - subject.objective().value()
    expected = {"projected_loss": loss, "projected_loss_change": change}
    expected["departure_gradient"] = sum(gradients.values()) / len(gradients)
    expected |= {f"departure_gradient/{name}": value for name, value in gradients.items()}
    assert values == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert 0 not in gradients.values()


def test_projection_of_scores_and_of_a_strict_network():
    module = classifier()
    first = module.net.blocks[0][0]
    score = {"score": lambda: {"test/acc": first.relaxed_weight_error()}}
    values = probes.projection(subject_of(module, **score)).values
    assert values["projection/test/acc"] == 0.0
    before = first.relaxed_weight_error().item()
    assert values["projection_change/test/acc"] == pytest.approx(-before)
    with relaxed_by(module.net, 0.0):
        strict = probes.projection(subject_of(module, statistics=[DIGITS], **score)).values
        alone = probes.projection(subject_of(module, **score)).values
    assert strict["projection_change/test/acc"] == alone["projected_loss_change"] == 0.0
    assert alone["projected_loss"] == values["projected_loss"]
    assert torch.tensor([*strict.values()]).isfinite().all() and strict["departure_gradient"]
