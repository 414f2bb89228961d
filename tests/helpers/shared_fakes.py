"""Tiny data that several processes share, and a network without batch norm, for runs on them."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from src.data.loading import ImageDataset, InMemoryDataModule
from src.models.components.gcnn import RelaxedLiftingConv


class _Shared(InMemoryDataModule):
    def __init__(self, data_dir: str, batch_size: int, num_workers: int, seed: int | None) -> None:
        super().__init__(batch_size, num_workers, seed)
        self.data_dir = data_dir

    def setup(self, stage: str | None = None) -> None:
        self._start_streams()
        sets = enumerate(self.sizes.items())
        self._datasets = {name: self.make(number, size) for number, (name, size) in sets}

    def test_dataloader(self) -> DataLoader | list[DataLoader]:
        loaders = [self._loader(self._dataset(name)) for name in self.test_names]
        return loaders if len(loaders) > 1 else loaders[0]


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


class SharedImages(_Shared):
    """Random images [1, 8, 8] with a bright row, column or corner: 50 / 21 / 31 of them."""

    num_classes, image_shape = 3, (1, 8, 8)
    mean, std, test_names = 0.25, 0.5, ("test",)
    sizes = {"train": 50, "val": 21, "test": 31}
    make = staticmethod(_images)


class SharedWindows(_Shared):
    """Random frames that fade, in windows [4, 2, 8, 8], two frames to forecast."""

    sizes = {"train": 18, "val": 7, "future": 9, "domain": 5}
    test_names, make, image_shape = ("future", "domain"), _Windows, (2, 8, 8)
    num_inputs, velocity_scale = 2, 2.0

    def __init__(self, num_inputs: int, **options) -> None:
        super().__init__(**options)


class UnnormedNet(nn.Module):
    """A relaxed lifting, pooled over the group and the plane, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        lifting = RelaxedLiftingConv(1, 4, 3, "c4", num_filter_banks=2)
        self.blocks = nn.Sequential(nn.Sequential(lifting, nn.ELU()))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean((2, 3, 4)))
