from functools import partial

import pytest
import torch
from torch import nn

from src.models.base_module import BaseModule

SGD = partial(torch.optim.SGD, lr=0.1)


def test_subclasses_say_what_the_network_gets():
    with pytest.raises(NotImplementedError):
        BaseModule(nn.Linear(2, 2), SGD).network_inputs(torch.zeros(1, 2))


def test_only_the_network_is_in_checkpoints():
    module = BaseModule(nn.Linear(2, 2), SGD)
    assert list(module.state_dict()) == ["net.weight", "net.bias"]


def test_a_network_without_relaxed_layers_has_no_penalty():
    module = BaseModule(nn.Linear(2, 2), SGD, alpha=3.0)
    assert module._penalised(torch.tensor(0.25)) == 0.25
