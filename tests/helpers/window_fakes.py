"""Tiny windows of velocity frames, with all that the run machinery asks of real ones."""

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader


class TinyWindows(LightningDataModule):
    """Random frames that fade: 16 / 8 / 8 / 8 windows [T, 2, size, size], two frames to forecast.

    Args:
        num_inputs: frames that a forecast starts from; windows hold two more.
        size: height and width.
    """

    test_names = ("future", "domain")

    def __init__(
        self,
        data_dir: str = "data",
        num_inputs: int = 2,
        size: int = 8,
        batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.data_dir = data_dir
        self.num_inputs = num_inputs
        self.image_shape = (2, size, size)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.velocity_scale = 2.0

    def train_dataloader(self) -> DataLoader:
        """In order, as all loaders."""
        return self._loader(16, seed=self.seed)

    def val_dataloader(self) -> DataLoader:
        """Other windows."""
        return self._loader(8, seed=self.seed + 1)

    def test_dataloader(self) -> list[DataLoader]:
        """Two loaders, as `test_names` names them."""
        return [self._loader(8, seed=self.seed + 2), self._loader(8, seed=self.seed + 3)]

    def _loader(self, num_windows: int, seed: int) -> DataLoader:
        windows = self._windows(num_windows, torch.Generator().manual_seed(seed))
        return DataLoader(windows, self.batch_size, num_workers=self.num_workers)

    def _windows(self, num_windows: int, generator: torch.Generator) -> Tensor:
        first = torch.randn(num_windows, 1, *self.image_shape, generator=generator)
        fading = 0.9 ** torch.arange(self.num_inputs + 2)
        return self.velocity_scale * first * fading[:, None, None, None]
