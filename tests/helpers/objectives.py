"""Small networks with a loss, and ways to compare what a measure left of them."""

import random
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from src.measures import Objective
from src.runs.building import build
from src.runs.resolvers import register_resolvers

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PRESETS = ("_paper", "_same_macs")  # the networks of other configs in other sizes
QUICK = ("cnn_smoke", "e2cnn_smoke", "rgcnn", "rtrans_smoke")  # plain, strict, relaxed
MODELS = [  # every kind of network in configs/model
    path.stem if path.stem in QUICK else pytest.param(path.stem, marks=pytest.mark.slow)
    for path in sorted((CONFIGS / "model").glob("*.yaml"))
    if not path.stem.endswith(PRESETS)
]


class Point(nn.Module):
    """Weights that are the output, whatever the input."""

    def __init__(self, weights):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(weights, dtype=torch.float64))

    def forward(self, x):
        return self.w.expand(len(x), -1)


def objective_at(weights, function):
    """The loss sum_p function(w)_p of weights."""
    criterion = nn.Module()
    criterion.forward = lambda outputs, targets: function(outputs).sum(1).mean()
    return Objective(Point(weights), criterion, [(torch.zeros(1, 1), torch.zeros(1))])


def bowl(weights, curvatures):
    """L = sum_p c_p w_p^2 / 2: the quadratic loss with these second derivatives."""
    factors = torch.tensor(curvatures, dtype=torch.float64) / 2
    return objective_at(weights, lambda w: factors * w.square())


def make_network(dtype=torch.float64):
    """Convolutions, batch norm with statistics and dropout, in train mode; 8 x 8 images."""
    torch.manual_seed(0)
    first = (nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ELU(inplace=True))
    last = (nn.Conv2d(4, 3, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(48, 5))
    network = nn.Sequential(*first, *last).to(dtype)
    scramble(network)
    return network


def scramble(network):
    """Move weights and running statistics away from where they start."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn_like(tensor))


def make_data(number=13, batch_size=13, dtype=torch.float64, classes=5):
    """Images and labels in batches; the same samples whatever the size of a batch."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(number, 1, 8, 8, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(classes, (number,), generator=generator)
    return list(zip(images.split(batch_size), labels.split(batch_size)))


def make_objective(network=None, **data):
    """Cross-entropy of `make_network` on `make_data`."""
    network = make_network() if network is None else network
    return Objective(network, nn.CrossEntropyLoss(), make_data(**data))


def configured_module(model, *overrides):
    """The Lightning module of a config in configs/model, with options of its network."""
    options = [f"model={model}", *(f"model.net.{o}" for o in overrides)]
    options += ["data=smoke_rotation", "data.num_inputs=2"] if "_smoke" in model else []
    options += ["model.net.grid_size=[8,8]"] if model.startswith("rtrans") else []
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", options)
    torch.manual_seed(0)
    return build(config, "model")


@lru_cache
def configured_objective(model):
    """The loss of a configured network on a few samples, weights scrambled; not to be changed."""
    module = configured_module(model)
    scramble(module.net)
    if "_smoke" in model:
        return module.objective([torch.randn(2, 4, 2, 8, 8)])
    return module.objective([(torch.randn(3, 1, 12, 12), torch.tensor([0, 1, 2]))])


def draw_everything():
    """Zero, from a draw of every global random generator."""
    return 0 * (torch.rand(1).item() + random.random() + np.random.rand())  # noqa: NPY002


class Snapshot:
    """Everything of a network, and every random state, that a measure must leave alone."""

    def __init__(self, network):
        self.network = network
        self.tensors = dict([*network.named_parameters(), *network.named_buffers()])
        self.copies = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        self.states = self._states()

    def _states(self):
        numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002
        modes = [module.training for module in self.network.modules()]
        return modes, random.getstate(), numpy_state, torch.get_rng_state().tolist()

    def assert_unchanged(self):
        """The same tensor objects with the same values and no gradients, modes and rng states."""
        after = dict([*self.network.named_parameters(), *self.network.named_buffers()])
        assert list(after) == list(self.tensors)
        for name, tensor in after.items():
            assert tensor is self.tensors[name]
            assert torch.equal(tensor, self.copies[name])
            assert tensor.grad is None
        assert self._states() == self.states
