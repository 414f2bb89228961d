import torch
from torch import nn

from src.measures import Subject, network_of


def test_network_and_inputs_of_a_module(capsys):
    module, (images, labels) = nn.Module(), (torch.randn(2, 1, 6, 6), torch.zeros(2))
    module.net = network = nn.Linear(1, 1)
    assert network_of(module) is network_of(network) is network
    module.net = nn.Module()
    module.net._orig_mod = network  # how torch.compile wraps a module
    assert Subject(module, []).network is network
    assert Subject(module, [(images, labels), images]).inputs() == [images, images]
    module.network_inputs = lambda batch: 2 * batch[0]
    (got,) = Subject(module, [(images, labels)]).inputs()
    assert torch.equal(got, 2 * images)
    assert list(Subject(module, []).progress(range(3))) == [0, 1, 2]
    assert capsys.readouterr().err == ""
