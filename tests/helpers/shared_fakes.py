"""Tiny data that several processes share, and a network without batch norm, for runs on them."""

import os

import torch
from lightning import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from src.data.datasets import ImageDataset
from src.data.loading import InMemoryDataModule
from src.models.components.gcnn import RelaxedLiftingConv

SIZES = {"train": 50, "val": 21, "test": 31}
WINDOWS = {"train": 18, "val": 7, "future": 9, "domain": 5}


class SharedImages(InMemoryDataModule):
    """Random images [1, 8, 8] with a bright row, column or corner: 50 / 21 / 31 of them."""

    def __init__(self, data_dir: str, batch_size: int, num_workers: int, seed: int | None) -> None:
        super().__init__(batch_size, num_workers, seed)
        self.data_dir = data_dir

    def setup(self, stage: str | None = None) -> None:
        """Make the images."""
        self._start_streams()
        self.sets = {name: _images(n, size) for n, (name, size) in enumerate(SIZES.items())}

    def train_dataloader(self) -> DataLoader:
        """Shuffled."""
        return self._train_loader(self.sets["train"])

    def val_dataloader(self) -> DataLoader:
        """In order."""
        return self._loader(self.sets["val"])

    def test_dataloader(self) -> DataLoader:
        """In order."""
        return self._loader(self.sets["test"])


class SharedWindows(InMemoryDataModule):
    """Random frames that fade, in windows [4, 2, 8, 8], two frames to forecast."""

    test_names = ("future", "domain")
    image_shape = (2, 8, 8)
    num_inputs = 2
    velocity_scale = 2.0

    def __init__(
        self, data_dir: str, num_inputs: int, batch_size: int, num_workers: int, seed: int | None
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        self.data_dir = data_dir

    def setup(self, stage: str | None = None) -> None:
        """Make the windows."""
        self._start_streams()
        self.sets = {name: _Windows(n, size) for n, (name, size) in enumerate(WINDOWS.items())}

    def train_dataloader(self) -> DataLoader:
        """Shuffled."""
        return self._train_loader(self.sets["train"])

    def val_dataloader(self) -> DataLoader:
        """In order."""
        return self._loader(self.sets["val"])

    def test_dataloader(self) -> list[DataLoader]:
        """Two loaders, as `test_names` names them."""
        return [self._loader(self.sets[name]) for name in self.test_names]


def _images(seed: int, size: int) -> ImageDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (size,), generator=generator)
    images = torch.randn(size, 1, 8, 8, generator=generator)
    for image, label in zip(images, labels):
        [image[:, 2], image[:, :, 2], image[:, :3, :3]][label] += 2
    return ImageDataset(images, labels)


class _Windows(TensorDataset):
    def __init__(self, seed: int, size: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        first = torch.randn(size, 1, 2, 8, 8, generator=generator)
        super().__init__(first * (0.9 ** torch.arange(4))[:, None, None, None])

    def __getitems__(self, indices: list[int]) -> Tensor:
        return self.tensors[0][indices]


class UnnormedNet(nn.Module):
    """A relaxed lifting, pooled over the group and the plane, and a linear layer."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            nn.Sequential(RelaxedLiftingConv(1, 4, 3, "c4", num_filter_banks=2), nn.ELU())
        )
        self.head = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of x [B, 1, H, W]."""
        return self.head(self.blocks(x).mean((2, 3, 4)))


class FailingProcess(Callback):
    """Fails in the process of one rank, in the second epoch.

    Args:
        rank: which.
        how: `raise`, or `kill`: as `kill -9` does.
    """

    def __init__(self, rank: int, how: str = "raise") -> None:
        self.rank = rank
        self.how = how

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        """Fail when due."""
        if trainer.global_rank == self.rank and trainer.current_epoch == 1:
            if self.how == "kill":
                os.kill(os.getpid(), 9)
            raise RuntimeError("this process fails")
