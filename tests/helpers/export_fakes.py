"""Small images, for checkpoints of convolutional networks."""

import torch
from lightning import LightningDataModule
from torch import Tensor

SIZES = {"train": 7, "val": 5, "test": 6}


class TinyImages(LightningDataModule):
    """Noise of 10 x 12 pixels; one batch per split, of a size that tells which split it is."""

    def __init__(self, data_dir: str = "data", channels: int = 1) -> None:
        super().__init__()
        self.channels = channels
        self.mean: float | None = None
        self.std: float | None = None

    def setup(self, stage: str | None = None) -> None:
        """Fix mean and standard deviation."""
        self.mean, self.std = 0.25, 0.5

    def train_dataloader(self) -> list[tuple[Tensor, Tensor]]:
        """Images to train on."""
        return self._batches("train")

    def val_dataloader(self) -> list[tuple[Tensor, Tensor]]:
        """Images to validate on."""
        return self._batches("val")

    def test_dataloader(self) -> list[tuple[Tensor, Tensor]]:
        """Images to test on."""
        return self._batches("test")

    def _batches(self, split: str) -> list[tuple[Tensor, Tensor]]:
        size = SIZES[split]
        images = torch.randn(
            size, self.channels, 10, 12, generator=torch.Generator().manual_seed(0)
        )
        return [(images, torch.zeros(size, dtype=torch.int64))]
