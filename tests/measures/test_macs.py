import pytest
import torch

from src.measures.macs import count_macs
from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.e2cnn import E2CNN
from src.models.components.e2forecasters import E2CNNForecaster, RelaxedSteerableForecaster
from src.models.components.forecasters import (
    CNNForecaster,
    GCNNForecaster,
    RelaxedGCNNForecaster,
    RelaxedTranslationForecaster,
)

H, W, K, CLASSES, FRAMES = 9, 6, 3, 10, 3
IMAGE, HALF = H * W, (H // 2) * (W // 2)


def classifier(fibre):
    """1 -> 2 -> 3 channels, pooled between them, and a linear layer."""
    return K**2 * fibre * (2 * IMAGE + 2 * 3 * fibre * HALF) + 3 * CLASSES


def forecaster(fibre, banks=1):
    """2 components of 3 frames -> 2 -> 4 -> 2 components."""
    return K**2 * IMAGE * banks * fibre * (2 * FRAMES * 2 + 2 * 4 * fibre + 4 * 2)


IMAGES = {"num_layers": 2, "hidden_channels": [2, 3], "pool_after": [1]}
VELOCITIES = {"num_layers": 3, "hidden_channels": [2, 4], "num_inputs": FRAMES}


@pytest.mark.parametrize(
    ("network", "options", "expected"),
    [
        (CNN, IMAGES, classifier(1)),
        (GCNN, IMAGES, classifier(4)),
        (RelaxedGCNN, IMAGES, classifier(4)),
        (RelaxedGCNN, {**IMAGES, "num_filter_banks": 5, "group": "d3"}, classifier(6)),
        (E2CNN, IMAGES, classifier(4)),
        (CNNForecaster, VELOCITIES, forecaster(1)),
        (RelaxedTranslationForecaster, {**VELOCITIES, "grid_size": (H, W)}, forecaster(1, banks=2)),
        (GCNNForecaster, VELOCITIES, forecaster(4)),
        (RelaxedGCNNForecaster, VELOCITIES, forecaster(4)),
        (E2CNNForecaster, VELOCITIES, forecaster(4)),
        (RelaxedSteerableForecaster, VELOCITIES, forecaster(4)),
    ],
)
def test_multiply_accumulates(network, options, expected):
    """Of the convolutions with expanded kernels, however many parameters these have."""
    net = network(**options)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    for batch in (1, 4):
        inputs = torch.zeros(batch, 2 * FRAMES if "num_inputs" in options else 1, H, W)
        assert count_macs(net, inputs) == expected
    assert net.training
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
