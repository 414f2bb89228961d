"""Images, and small networks of blocks, that measures of equivariance are tested on."""

import torch
from torch import nn

from src.models.components import gcnn

VECTORS = {"input": "vector", "output": "vector"}


class Function(nn.Module):
    """Any function of a batch as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Network(nn.Module):
    """Blocks, then a mean over everything but batch and channels."""

    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x.flatten(2).mean(2) if x.ndim > 2 else x


def images(batch=3, channels=2, size=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, *((size, size) if isinstance(size, int) else size))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def strict_network():
    torch.manual_seed(0)
    first = (gcnn.LiftingConv(1, 3, 3, "c4"), gcnn.GroupBatchNorm(3), nn.ELU(inplace=True))
    second = (gcnn.GroupConv(3, 3, 3, "c4"), gcnn.SpatialPool(), nn.ELU(inplace=True))
    return Network(nn.Sequential(*first), nn.Sequential(*second), gcnn.GroupPool()).double()


def relaxed_network():
    torch.manual_seed(0)
    first, second = gcnn.RelaxedLiftingConv(1, 3, 3, "c4", num_filter_banks=2), nn.ELU(inplace=True)
    third, fourth = gcnn.RelaxedGroupConv(3, 3, 3, "c4", num_filter_banks=2), nn.ELU(inplace=True)
    return Network(nn.Sequential(first, second), nn.Sequential(third, fourth)).double()


def ordinary_network():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ELU(inplace=True))
    return Network(first, nn.MaxPool2d(2), nn.Conv2d(4, 3, 3, padding=1)).double()


MAKERS = [strict_network, relaxed_network, ordinary_network]


def spoil(network):
    """Batch norms and relaxed weights as after some training."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
        if isinstance(module, gcnn.RelaxedLayer):
            module.relaxed_weights.data.uniform_(0, 1, generator=generator)
    return network.double()
