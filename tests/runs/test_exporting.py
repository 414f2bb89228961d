import pytest
import torch

from src.models.components.classifiers import GCNN, RelaxedGCNN
from src.models.components.export import export
from src.runs.exporting import FORMATS

SMALL = {"hidden_channels": 2, "num_layers": 3, "pool_after": [2]}
NETWORKS = {
    "relaxed": lambda: RelaxedGCNN(group="d2", **SMALL),
    "mean": lambda: GCNN(group="c8", group_pool="mean", **SMALL),
}


ROWS = [("torch", ".pt", ["relaxed"])]
SLOW = [("pt2", ".pt2", ["relaxed", "mean"]), ("onnx", ".onnx", ["mean"])]
ROWS += [pytest.param(*row, marks=pytest.mark.slow) for row in SLOW]


@pytest.mark.parametrize(("name", "suffix", "networks"), ROWS)
def test_files_give_the_networks_outputs_on_images_of_any_number_and_size(name, suffix, networks):
    assert FORMATS[name].suffix == suffix
    torch.manual_seed(0)
    for make in (NETWORKS[network] for network in networks):
        network = make()
        network(torch.randn(16, 1, 12, 12))  # statistics of the norms
        network.eval()
        data = FORMATS[name].write(export(network), torch.zeros(2, 1, 12, 12))
        for shape in [(2, 1, 12, 12), (5, 1, 12, 12), (1, 1, 17, 14)]:
            images = torch.randn(shape)
            with torch.no_grad():
                result, expected = FORMATS[name].run(data, images), network(images)
            torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
