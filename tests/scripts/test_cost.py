import pytest
import torch

from scripts.benchmarks.cost import (
    Cost,
    build_data,
    compose_experiment,
    estimate,
    time_steps,
    training_data,
)
from src.runs.building import build
from tests.test_configs import options

CPU = torch.device("cpu")


def test_hours_are_seconds_of_all_steps_of_the_whole_batch():
    cost = Cost("cnn", 10, batch=16, measured_batch=4, steps=1800, measured_seconds=0.5)
    assert cost.seconds == 2
    assert cost.hours == 1


@pytest.mark.parametrize(
    ("experiment", "overrides", "shape", "size"),
    [
        ("cnn_rotmnist", [], (1, 28, 28), 3_500),
        ("cnn_rotmnist", ["data.source=rotmnist"], (1, 28, 28), 10_000),
        ("rgcnn_smoke_rotation", [], (16, 2, 64, 64), 25 * 160),
        ("rgcnn_smoke", [], (7, 2, 32, 32), 4 * 30),
    ],
)
def test_sizes_follow_from_the_config(experiment, overrides, shape, size):
    """Without simulating or downloading anything."""
    sample, num_samples = training_data(build_data(compose_experiment(experiment, overrides)))
    image = sample if isinstance(sample, torch.Tensor) else sample[0]
    assert image.shape == shape
    assert num_samples == size


@pytest.mark.parametrize("experiment", options("experiment"))
def test_data_of_every_experiment_have_a_size(experiment):
    assert training_data(build_data(compose_experiment(experiment, [])))[1] > 0


def test_an_estimate_of_a_small_experiment():
    config = compose_experiment("gcnn_smoke", ["model.net.num_parameters=6000"])
    cost = estimate(config, CPU, num_steps=1, most=2)
    assert (cost.network, cost.batch, cost.measured_batch) == ("gcnn_smoke", 16, 2)
    assert cost.steps == 30 * 8, "30 epochs of 120 windows"
    assert cost.parameters == pytest.approx(6000, rel=0.03)
    assert cost.hours > 0


def test_the_timed_steps_train():
    config = compose_experiment("cnn_smoke", ["model.net.num_parameters=6000"])
    model = build(config, "model")
    before = [p.clone() for p in model.parameters()]
    sample = torch.randn(3, 2, 8, 8)
    assert time_steps(model, sample, batch=2, device=CPU, num_steps=1) > 0
    assert not any(torch.equal(old, new) for old, new in zip(before, model.parameters()))
