from itertools import product

import pytest
import torch
import torch.nn.functional as F

from scripts.benchmarks import steps
from scripts.benchmarks.networks import LibraryNetwork
from scripts.benchmarks.operations import PARTS
from scripts.benchmarks.timing import Settings

SETTINGS = Settings(1, torch.device("cpu"), torch.float32, compile=False)
SMALL = {
    "rgcnn_rotmnist": ["data.batch_size=2", "model.net.num_parameters=6000"],
    "gcnn_rotmnist": ["data.batch_size=2", "model.net.num_parameters=6000"],
    "rgcnn_smoke": ["data.batch_size=2", "data.coarsen=8", "model.net.num_parameters=6000"],
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("scripts.benchmarks.timing.SHORTEST_SAMPLE", 0.0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "experiment", ["rgcnn_rotmnist", pytest.param("rgcnn_smoke", marks=pytest.mark.slow)]
)
def test_parts_add_up_to_the_step(experiment, training):
    row = steps.measure(experiment, training, SETTINGS, SMALL[experiment])
    parts = {part: row[f"{part}, %"] for part in PARTS}
    assert sum(parts.values()) == pytest.approx(100)
    assert (parts["optimizer"] > 0) == training
    assert (parts["pooling"] > 0) == (parts["norm"] > 0) == (experiment == "rgcnn_rotmnist")
    assert min(parts["convolution"], parts["activation"], parts["expansion"]) > 0


def test_recorded_convolutions_are_all_those_of_a_step():
    case = steps.make_case("rgcnn_smoke", SETTINGS, SMALL["rgcnn_smoke"])
    with steps.Recorder() as recorder:
        case.network(case.x)
    layers, horizon = 5, 6
    assert len(recorder.calls) == layers * horizon
    needed = [x.requires_grad for x, _, _ in recorder.calls]
    assert needed == [False] + (layers * horizon - 1) * [True]
    for x, kernel, options in recorder.calls:
        assert F.conv2d(x, kernel, **options).shape == (2, len(kernel), 8, 8)


def test_steps_leave_the_weights_and_give_gradients():
    case = steps.make_case("gcnn_rotmnist", SETTINGS, SMALL["gcnn_rotmnist"])
    before = [p.clone() for p in case.network.parameters()]
    case.step(True, SETTINGS)()
    assert all(map(torch.equal, before, case.network.parameters()))
    assert all(p.grad.any() for p in case.network.parameters())


@pytest.mark.slow
def test_the_library_is_timed_with_both_of_its_activations():
    rows = steps.benchmark_library(SETTINGS, SMALL["gcnn_rotmnist"]).rows
    kinds = [(row["activation"], row["step"]) for row in rows]
    assert kinds == list(product(("relu", "elu"), ("training", "evaluation")))


def test_library_network_is_strict():
    net = LibraryNetwork("c4", 3, [2, 3], "elu", pool_after=[1], num_classes=5).eval()
    x = torch.randn(2, 1, 8, 8)
    assert net(x).shape == (2, 5)
    torch.testing.assert_close(net(x), net(torch.rot90(x, 1, (-2, -1))))
