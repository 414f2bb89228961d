import random

import numpy as np
import pytest
import torch
from torch import nn

from src.measures import evaluation_mode, preserved_rng


class CachesInEval(nn.Module):
    """Keeps a copy of its weight as a buffer in eval mode, as e2cnn's convolutions do."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def train(self, mode=True):
        if mode and "cached" in self._buffers:
            del self.cached
        elif not mode and self.training:
            self.register_buffer("cached", self.weight.detach().clone())
        return super().train(mode)


def make_model():
    return nn.Sequential(
        nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()), CachesInEval()
    )


def modes(model):
    return [module.training for module in model.modules()]


def test_evaluation_mode_restores_the_mode_of_every_submodule():
    model = make_model()
    model[1].eval()
    model[1][1].train()  # a training module inside an evaluating one inside a training one
    before = modes(model)
    assert before == [True, True, False, False, True, True]
    with evaluation_mode(model) as inside:
        assert inside is model
        assert not any(modes(model))
    assert modes(model) == before


def test_evaluation_mode_restores_modes_after_an_error():
    model = make_model()
    with pytest.raises(RuntimeError, match="inside"), evaluation_mode(model):
        raise RuntimeError("inside")
    assert all(modes(model))


def test_evaluation_mode_leaves_no_buffers_behind():
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with evaluation_mode(model):
        assert "2.cached" in model.state_dict()
        model[:2](torch.randn(3, 2))
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def draw():
    return torch.rand(1).item(), float(np.random.rand()), random.random()  # noqa: NPY002


def test_preserved_rng_restores_python_numpy_and_torch():
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    expected = draw()
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])
    with preserved_rng():
        draw()
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        random.seed(3)
    assert draw() == expected


def test_preserved_rng_restores_after_an_error():
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="inside"), preserved_rng():
        draw()
        raise RuntimeError("inside")
    assert torch.equal(torch.get_rng_state(), state)
