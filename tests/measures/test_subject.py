import torch
from torch import nn

from src.measures import Subject, network_of
from src.models.components.classifiers import CNN


def module_with(network):
    module = nn.Module()
    module.net = network
    return module


def test_network_of_a_module():
    network = CNN(hidden_channels=2, num_layers=2, pool_after=[])
    module = module_with(network)
    assert network_of(module) is network
    module.net = nn.Module()
    module.net._orig_mod = network  # how torch.compile wraps a module
    assert network_of(module) is network
    assert network_of(network) is network
    assert Subject(module, []).network is network


def test_what_the_network_of_a_module_gets():
    images, labels = torch.randn(2, 1, 6, 6), torch.zeros(2)
    module = module_with(CNN(hidden_channels=2, num_layers=2, pool_after=[]))
    assert Subject(module, [(images, labels), images]).inputs() == [images, images]
    module.network_inputs = lambda batch: 2 * batch[0]
    (got,) = Subject(module, [(images, labels)]).inputs()
    assert torch.equal(got, 2 * images)


def test_progress_is_silent_unless_asked_for(capsys):
    for _ in Subject(nn.Module(), []).progress(range(3)):
        pass
    assert capsys.readouterr().err == ""
