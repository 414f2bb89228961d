"""A network, a module and data small enough to train in a test of a callback."""

import csv

import pytest
import torch
import torch.nn.functional as F
from lightning import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from src.measures import Objective
from src.models.components.gcnn import GroupPool, RelaxedGroupConv, RelaxedLiftingConv, make_group

# a hint of Lightning's about speed
lightning_warnings = pytest.mark.filterwarnings("ignore:.*does not have many workers")


class TinyNetwork(nn.Module):
    """Two blocks and a linear layer; with a group relaxed layers, without one ordinary ones."""

    def __init__(self, group=None):
        super().__init__()
        torch.manual_seed(0)
        if group is None:
            first, second = (nn.Conv2d(channels, 2, 3, padding=1) for channels in (1, 2))
        else:
            self.group = make_group(group)
            first = RelaxedLiftingConv(1, 2, 3, group, num_filter_banks=2)
            second = RelaxedGroupConv(2, 2, 3, group, num_filter_banks=2)
        self.blocks = nn.Sequential(nn.Sequential(first, nn.ReLU()), second)
        self.pool = nn.Identity() if group is None else GroupPool()
        self.head = nn.Linear(2, 3)

    def forward(self, x):
        return self.head(self.pool(self.blocks(x)).mean((-2, -1)))


class TinyModule(LightningModule):
    def __init__(self, net, optimizer=torch.optim.SGD, lr=0.1):
        super().__init__()
        self.net, self.make_optimizer, self.lr = net, optimizer, lr

    def objective(self, batches):
        return Objective(self.net, nn.CrossEntropyLoss(), batches)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return F.cross_entropy(self.net(images), labels)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return self.make_optimizer(self.parameters(), lr=self.lr)


class TinyData(LightningDataModule):
    """12 training and 10 validation images of 6 x 6, batches of 4, always in the same order."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(22, 1, 6, 6, generator=generator)
        labels = torch.randint(3, (22,), generator=generator)
        self.train = TensorDataset(images[:12], labels[:12])
        self.val = TensorDataset(images[12:], labels[12:])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=4)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=4)


def read_metrics(folder):
    """Rows of the CSV logger's file, if there is one, without their empty cells."""
    path = folder / "csv" / "metrics.csv"
    lines = path.read_text().splitlines() if path.exists() else []
    return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(lines)]


def dynamics_rows(folder, measure):
    return [row for row in read_metrics(folder) if f"dynamics/{measure}" in row]
