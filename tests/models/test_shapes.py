import pytest
import torch
from torch import nn

from src.models.shapes import check_shapes

KEYS = "model.net.num_classes"


def network(*layers):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), *layers)


def test_a_network_that_fits_is_left_as_it_is():
    net = network(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).double()
    before, random = [v.clone() for v in net.state_dict().values()], torch.get_rng_state()
    check_shapes(net, (3, 8, 8), [5], KEYS)
    assert all(map(torch.equal, before, net.state_dict().values()))
    assert torch.equal(torch.get_rng_state(), random) and net[1].training


@pytest.mark.parametrize(
    ("layers", "inputs", "got"),
    [
        ([nn.Flatten(), nn.Linear(144, 7)], (3, 8, 8), r"gave \[2, 7\]"),
        ([], (3, 8, 8), r"gave \[2, 4, 6, 6\]"),
        ([], (1, 8, 8), "failed .*expected input.* to have 3 channels, but got 1"),
        ([nn.Flatten(), nn.Linear(9, 5)], (3, 8, 8), "failed .*cannot be multiplied"),
        ([nn.Flatten(), nn.GRU(144, 5)], (3, 8, 8), "gave no tensor"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(layers, inputs, got):
    sizes = ", ".join(map(str, inputs))
    message = (
        rf"(?s)the data's inputs \[2, {sizes}\] to \[2, 5\]; Sequential {got}.*Leave out {KEYS}"
    )
    with pytest.raises(ValueError, match=message):
        check_shapes(network(*layers), inputs, [5], KEYS)
