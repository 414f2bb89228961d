"""A network of one weight whose steps and scores are known."""

from functools import partial

import torch
from torch import nn

from src.models.base_module import BaseModule


class Walking(BaseModule):
    """Its weight is the number of steps it took, its score is the better the nearer it is to 5."""

    def __init__(self):
        super().__init__(nn.Linear(1, 1, bias=False), partial(torch.optim.SGD, lr=1.0))
        nn.init.zeros_(self.net.weight)

    def training_step(self, batch, batch_idx):
        self.log("train/loss", -self.net.weight.sum())
        return -self.net.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.log("val/score", -(self.net.weight - 5).abs().sum())


def weight_of(path):
    return torch.load(path, weights_only=True)["state_dict"]["net.weight"].item()
