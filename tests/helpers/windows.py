"""Windows of velocity frames small enough to train on in a test, and a network for them."""

from functools import partial

import torch
from lightning import LightningDataModule, Trainer
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics import Metric

from src.models.forecasting_module import ForecastingModule

SGD = partial(torch.optim.SGD, lr=0.01)


def make_windows(number, length, size=6, seed=0):
    """Noise that fades from frame to frame, of RMS 3 at first."""
    generator = torch.Generator().manual_seed(seed)
    first = 3 * torch.randn(number, 1, 2, size, size, generator=generator)
    return first * 0.8 ** torch.arange(length).view(1, -1, 1, 1, 1)


def with_density(windows):
    """A third channel, of another size."""
    return torch.cat([windows, 7 * windows[:, :, :1].abs()], 2)


def loader(windows, batch_size=4):
    return DataLoader(windows, batch_size)


class TinyWindows(LightningDataModule):
    """10 training, 6 validation, 7 + 5 test windows; batches of 4, always in the same order.

    With a `density_scale` they have a third channel.
    """

    test_names = ("future", "domain")
    image_shape = (2, 6, 6)

    def __init__(
        self,
        num_inputs=2,
        train_horizon=3,
        test_horizon=5,
        velocity_scale=2.5,
        density_scale=None,
    ):
        super().__init__()
        self.num_inputs = num_inputs
        self.velocity_scale, self.density_scale = velocity_scale, density_scale
        lengths = [num_inputs + horizon for horizon in (train_horizon, test_horizon)]
        self.train = make_windows(10, lengths[0], seed=1)
        self.val = make_windows(6, lengths[0], seed=2)
        self.tests = [make_windows(7, lengths[1], seed=3), make_windows(5, lengths[1], seed=4)]
        if density_scale is not None:
            self.image_shape = (3, 6, 6)
            self.train, self.val = with_density(self.train), with_density(self.val)
            self.tests = [with_density(windows) for windows in self.tests]

    def train_dataloader(self):
        return loader(self.train)

    def val_dataloader(self):
        return loader(self.val)

    def test_dataloader(self):
        return [loader(windows) for windows in self.tests]


class TinyForecaster(nn.Module):
    """Two ordinary convolutions and the last frame."""

    def __init__(self, num_inputs=2):
        super().__init__()
        torch.manual_seed(0)
        first = nn.Sequential(nn.Conv2d(2 * num_inputs, 4, 3, padding=1), nn.ELU())
        self.blocks = nn.Sequential(first, nn.Conv2d(4, 2, 3, padding=1))

    def forward(self, x):
        return x[:, -2:] + 0.1 * self.blocks(x)


def make_trainer(folder, **options):
    """A trainer that trains for one epoch on the CPU and says nothing."""
    defaults = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "num_sanity_val_steps": 0}
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options = {**defaults, **dict.fromkeys(quiet, False), **options}
    return Trainer(default_root_dir=folder, **options)


def make_module(net=None, optimizer=SGD, num_inputs=2, **options):
    return ForecastingModule(net or TinyForecaster(), optimizer, num_inputs=num_inputs, **options)


class Growing(nn.Module):
    """The last frame times two, plus the first of the inputs; keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))
        self.given = []

    def forward(self, x):
        self.given.append(x.detach().clone())
        return self.factor * x[:, -2:] + x[:, :2]


def quiet(module, scale=1.0):
    """A module outside a trainer, whose logged values are collected."""
    logged = {}

    def log(name, value, **_):
        logged[name] = float(value.compute() if isinstance(value, Metric) else value)

    module.log = log
    module.velocity_scale.fill_(scale)
    return module, logged


def rolled_out(net, window, num_inputs, scale, teacher_forcing=False):
    """The obvious rollout: one frame after the other, in physical units."""
    frames = [window[:, t] for t in range(num_inputs)]
    forecasts = []
    for t in range(num_inputs, window.shape[1]):
        source = [window[:, s] for s in range(t)] if teacher_forcing else frames
        inputs = torch.cat([frame / scale for frame in source[-num_inputs:]], 1)
        forecasts.append(net(inputs) * scale)
        frames.append(forecasts[-1])
    return torch.stack(forecasts, 1)


def rms(x):
    return x.square().mean().sqrt().item()
