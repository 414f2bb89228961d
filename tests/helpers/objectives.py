"""Small networks with a loss, and ways to compare what a measure left of them."""

import random
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from src.measures import Objective
from src.runs.building import build
from src.runs.resolvers import register_resolvers

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MODELS = sorted(
    path.stem
    for path in (CONFIGS / "model").glob("*.yaml")
    if path.stem not in ("classification", "forecasting")
)


class Point(nn.Module):
    """Weights that are the output, whatever the input."""

    def __init__(self, *weights):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(weights, dtype=torch.float64))

    def forward(self, x):
        return self.w.expand(len(x), -1)


class WeightedSquares(nn.Module):
    """L = sum_p c_p w_p^2 / 2 for a `Point`."""

    def __init__(self, *curvatures):
        super().__init__()
        self.curvatures = torch.tensor(curvatures, dtype=torch.float64)

    def forward(self, outputs, targets):
        return (self.curvatures * outputs.square()).sum(1).mean() / 2


def bowl(weights, curvatures):
    """The quadratic loss of a point with these second derivatives."""
    nothing = [(torch.zeros(1, 1), torch.zeros(1))]
    return Objective(Point(*weights), WeightedSquares(*curvatures), nothing)


def make_network(dtype=torch.float64):
    """Convolutions, batch norm with statistics and dropout, in train mode; 8 x 8 images."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ELU(inplace=True),
        nn.Conv2d(4, 3, 3),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(48, 5),
    ).to(dtype)
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


def make_data(number=13, batch_size=13, dtype=torch.float64, size=8, classes=5):
    """Images and labels in batches; the same samples whatever the size of a batch."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(number, 1, size, size, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(classes, (number,), generator=generator)
    return list(zip(images.split(batch_size), labels.split(batch_size)))


def make_objective(network=None, **data):
    """Cross-entropy of `make_network` on `make_data`."""
    network = make_network() if network is None else network
    return Objective(network, nn.CrossEntropyLoss(), make_data(**data))


def configured_objective(model):
    """The loss of a network of configs/model on a few small samples, with scrambled weights."""
    overrides = [f"model={model}", "+data.num_inputs=2"]
    if model.endswith("_paper"):
        overrides.append("model.net.num_parameters=60000")
    if model.startswith("rtrans"):
        overrides.append("model.net.grid_size=[8,8]")
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", overrides)
    torch.manual_seed(0)
    module = build(config, "model")
    scramble(module.net)
    if "_smoke" in model:
        return module.objective([torch.randn(2, 4, 2, 8, 8)])
    return module.objective([(torch.randn(3, 1, 12, 12), torch.tensor([0, 1, 2]))])


class Snapshot:
    """Everything of a network, and every random state, that a measure must leave alone."""

    def __init__(self, network):
        self.network = network
        self.tensors = dict([*network.named_parameters(), *network.named_buffers()])
        self.copies = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        self.modes = [module.training for module in network.modules()]
        self.random = self._random()

    def _random(self):
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    def assert_unchanged(self):
        """The same tensor objects with the same values and no gradients, modes and rng states."""
        after = dict([*self.network.named_parameters(), *self.network.named_buffers()])
        assert list(after) == list(self.tensors)
        for name, tensor in after.items():
            assert tensor is self.tensors[name]
            assert torch.equal(tensor, self.copies[name])
            assert tensor.grad is None
        assert [module.training for module in self.network.modules()] == self.modes
        assert self._random() == self.random
