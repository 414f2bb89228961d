import random

import numpy as np
import pytest
import torch
from torch import nn

from src.measures import evaluation_mode, preserved_rng


class CachesInEval(nn.Module):
    """Keeps a buffer in eval mode alone, as e2cnn's convolutions keep their expanded filters."""

    def train(self, mode=True):
        self._buffers.pop("cached", None)
        if not mode:
            self.register_buffer("cached", torch.ones(2))
        return super().train(mode)


def test_evaluation_mode_restores_modes_and_buffers_also_after_an_error():
    inner = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    model = nn.Sequential(nn.Linear(2, 2), inner, CachesInEval())
    model[1].eval()
    model[1][1].train()  # a training module inside an evaluating one inside a training one
    before = [module.training for module in model.modules()]
    assert before == [True, True, False, False, True, True]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="inside"), evaluation_mode(model) as within:
        assert within is model
        assert not any(module.training for module in model.modules())
        assert "2.cached" in model.state_dict()
        model[:2](torch.randn(3, 2))
        raise RuntimeError("inside")
    assert [module.training for module in model.modules()] == before
    after = model.state_dict()
    assert list(after) == list(state) and all(map(torch.equal, after.values(), state.values()))


def test_preserved_rng_restores_python_numpy_and_torch_also_after_an_error():
    def draw():
        return torch.rand(1).item(), float(np.random.rand()), random.random()  # noqa: NPY002

    def seed():
        for one in (torch.manual_seed, np.random.seed, random.seed):
            one(3)

    seed()
    expected = draw(), draw()
    seed()
    assert draw() == expected[0]
    with pytest.raises(RuntimeError, match="inside"), preserved_rng():
        seed()
        raise RuntimeError("inside")
    assert draw() == expected[1]
