import random

import numpy as np
import pytest
import torch
from torch import nn

from src.measures import Objective, equivariance_error, evaluation_mode, preserved_rng
from src.measures.context import unchanged
from src.measures.hessian import hessian_operator


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


BACKENDS = torch.backends
PRODUCTS = (BACKENDS.cuda.matmul, BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn)
PRODUCTS += (BACKENDS.mkldnn.matmul, BACKENDS.mkldnn.conv, BACKENDS.mkldnn.rnn)
PARENTS = (BACKENDS, BACKENDS.cudnn, BACKENDS.mkldnn)
CHOICES = {
    "as torch starts": [],
    "high": [lambda: torch.set_float32_matmul_precision("high")],
    "medium": [lambda: torch.set_float32_matmul_precision("medium")],
    "older flags": [
        lambda: setattr(BACKENDS.cuda.matmul, "allow_tf32", True),
        lambda: setattr(BACKENDS.cudnn, "allow_tf32", False),
    ],
    "every backend": [lambda: setattr(BACKENDS, "fp32_precision", "tf32")],
    "newer": [lambda product=p: setattr(product, "fp32_precision", "tf32") for p in PRODUCTS],
    "some": [lambda: setattr(BACKENDS.mkldnn.conv, "fp32_precision", "bf16")],
    "mixed": [lambda: setattr(BACKENDS.cudnn.conv, "fp32_precision", "ieee")],
}
FLAGS = (
    torch.get_float32_matmul_precision,
    lambda: BACKENDS.cudnn.allow_tf32,
    lambda: BACKENDS.cuda.matmul.allow_tf32,
)


def precision_settings():
    """All that torch says about products; an older flag it refuses to read is an error's name."""
    found = [part.fp32_precision for part in (*PRODUCTS, *PARENTS)]
    for flag in FLAGS:
        try:
            found.append(flag())
        except RuntimeError:
            found.append("unreadable")
    return found


class Spy(nn.Linear):
    """Notes the settings under which it, or a copy of it, runs."""

    seen = []

    def forward(self, x):
        products = {product.fp32_precision for product in PRODUCTS}
        self.seen.append((products, [flag() for flag in FLAGS], torch.is_autocast_enabled("cpu")))
        return super().forward(x)


@pytest.fixture
def restored_settings():
    before = [(part, part.fp32_precision) for part in (*PARENTS, *PRODUCTS)]
    yield
    torch.set_float32_matmul_precision("highest")
    BACKENDS.cudnn.allow_tf32 = True
    for part, setting in before:
        part.fp32_precision = setting


@pytest.mark.parametrize("choice", CHOICES)
def test_measures_compute_in_full_precision_whatever_is_set(choice, restored_settings):
    """TF32, bfloat16 and autocast would show as noise; afterwards all is as it was."""
    for choose in CHOICES[choice]:
        choose()
    model, before = Spy(2, 2), precision_settings()
    objective = Objective(model, nn.MSELoss(), [(torch.ones(1, 2), torch.ones(1, 2))])
    operator = hessian_operator(objective)
    takes = objective.value, objective.gradient, lambda: operator @ np.ones(6)
    takes += (lambda: equivariance_error(model, [torch.ones(2, 1, 2, 2)], "c4", output="scalar"),)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for take in takes:
            Spy.seen.clear()
            take()
            assert Spy.seen and precision_settings() == before
            assert all(seen == ({"ieee"}, ["highest", False, False], False) for seen in Spy.seen)
        with pytest.raises(ValueError, match="inside"), unchanged(model):
            raise ValueError("inside")
        assert torch.is_autocast_enabled("cpu") and precision_settings() == before
