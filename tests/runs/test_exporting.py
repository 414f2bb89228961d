import pytest
import torch
from torch import nn

from src.models.components.classifiers import GCNN, RelaxedGCNN
from src.models.components.export import export
from src.models.components.forecasters import RelaxedGCNNForecaster
from src.runs.exporting import FORMATS

SMALL = {"hidden_channels": 2, "num_layers": 3, "pool_after": [2]}


class FixedSize(nn.Sequential):
    """An ordinary network that takes images of one size."""

    def __init__(self):
        super().__init__(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(200, 3))


IMAGES = [(2, 1, 12, 12), (5, 1, 12, 12), (1, 1, 17, 14)]
NETWORKS = {
    "relaxed": (lambda: RelaxedGCNN(group="d2", **SMALL), IMAGES),
    "mean": (lambda: GCNN(group="c8", group_pool="mean", **SMALL), IMAGES),
    "forecaster": (
        lambda: RelaxedGCNNForecaster(num_inputs=1, hidden_channels=2, num_layers=3),
        [(2, 2, 8, 8), (3, 2, 11, 9)],
    ),
    "ordinary": (FixedSize, IMAGES[:2]),
    "vectors": (lambda: nn.Linear(4, 3), [(2, 4), (5, 4)]),
}
ROWS = [("pt2", "ordinary"), ("pt2", "vectors")]
SLOW = [("pt2", "relaxed"), ("pt2", "mean"), ("pt2", "forecaster"), ("onnx", "mean")]
SLOW += [("onnx", "forecaster"), ("onnx", "ordinary"), ("onnx", "vectors")]
ROWS += [pytest.param(*row, marks=pytest.mark.slow) for row in SLOW]


@pytest.mark.parametrize(("name", "network"), ROWS)
def test_files_give_the_networks_outputs_on_inputs_of_any_number_and_size(name, network):
    """Of any size, that is, that the network takes."""
    torch.manual_seed(0)
    make, shapes = NETWORKS[network]
    network = make()
    network(torch.randn(16, *shapes[0][1:]))  # statistics of the norms
    network.eval()
    data = FORMATS[name].write(export(network), torch.zeros(shapes[0]), ("x", "y"))
    for shape in shapes:
        inputs = torch.randn(shape)
        with torch.no_grad():
            result, expected = FORMATS[name].run(data, inputs), network(inputs)
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
