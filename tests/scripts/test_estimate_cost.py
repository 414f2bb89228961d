import pytest
import torch

from scripts.estimate_cost import compose_experiment, estimate, training_data
from tests.test_configs import options


def test_sizes_follow_from_the_config():
    for experiment, overrides, shape, size in (
        ("cnn_rotmnist", [], (1, 28, 28), 3_500),
        ("cnn_rotmnist", ["data.source=rotmnist"], (1, 28, 28), 10_000),
        ("cnn_rotmnist", ["data.num_train=100"], (1, 28, 28), 100),
        ("rgcnn_smoke_rotation", ["model=cnn_smoke_paper"], (16, 2, 64, 64), 25 * 160),
        ("rgcnn_smoke", [], (8, 2, 32, 32), 96 * 83),
        ("rgcnn_smoke_published", [], (7, 2, 64, 64), 4 * 30),
    ):
        sample, num_samples = training_data(compose_experiment(experiment, overrides))
        sample = sample if isinstance(sample, torch.Tensor) else sample[0]
        assert (sample.shape, num_samples) == (shape, size)


@pytest.mark.slow
def test_data_of_every_experiment_have_a_size():
    for experiment in options("experiment"):
        assert training_data(compose_experiment(experiment, []))[1] > 0, experiment


@pytest.mark.slow
def test_hours_are_seconds_of_all_steps_of_the_whole_batch(monkeypatch):
    clock = iter([0.0, 9.0, 10.0, 10.5, 20.0, 20.75])  # the first step is not counted
    monkeypatch.setattr("scripts.estimate_cost.perf_counter", lambda: next(clock))
    config = compose_experiment("rgcnn_smoke", ["model=cnn_smoke", "model.net.num_parameters=6000"])
    cost = estimate(config, torch.device("cpu"), num_steps=2, most=4)
    assert (cost["model"], cost["batch"], cost["timed batch"]) == ("cnn_smoke", 16, 4)
    assert cost["s/step"] == 0.5 * 4
    assert cost["steps"] == "1,992", "4 epochs of 498 batches of 16 windows"
    assert int(cost["parameters"].replace(",", "")) == pytest.approx(6000, rel=0.03)
    assert int(cost["MACs"].replace(",", "")) == pytest.approx(6000 * 32**2, rel=0.03)
    assert cost["hours"] == pytest.approx(cost["s/step"] * 1992 / 3600)
    assert next(clock, None) is None
