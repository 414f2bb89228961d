import pytest
import torch

from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.e2cnn import E2CNN
from src.models.components.export import export
from src.runs.exporting import FORMATS

SMALL = {"hidden_channels": 2, "num_layers": 3, "pool_after": [2]}


def networks():
    yield CNN(**SMALL)
    yield GCNN(group="c8", group_pool="mean", **SMALL)
    yield RelaxedGCNN(group="d2", **SMALL)
    yield E2CNN(group="c3", **SMALL)


@pytest.mark.parametrize(
    "name", ["torch", *(pytest.param(name, marks=pytest.mark.slow) for name in ("pt2", "onnx"))]
)
def test_files_give_the_networks_outputs_on_images_of_any_number_and_size(name):
    torch.manual_seed(0)
    for network in networks():
        network(torch.randn(16, 1, 12, 12))  # statistics of the norms
        network.eval()
        data = FORMATS[name].write(export(network), torch.zeros(2, 1, 12, 12))
        assert isinstance(data, bytes)
        for shape in [(2, 1, 12, 12), (5, 1, 12, 12), (1, 1, 17, 14)]:
            images = torch.randn(shape)
            with torch.no_grad():
                result, expected = FORMATS[name].run(data, images), network(images)
            torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_suffixes_tell_formats_apart():
    assert len({kind.suffix for kind in FORMATS.values()}) == len(FORMATS)
    assert ".ckpt" not in {kind.suffix for kind in FORMATS.values()}
