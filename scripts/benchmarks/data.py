"""Samples per second of the loader of rotated digits, against one sample at a time."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from scripts.benchmarks.settings import Settings
from scripts.benchmarks.tables import Table
from src.data.rotmnist.datamodule import RotatedMNISTDataModule

BATCH_SIZE = 64
NOTE = (
    "One pass over the 3,500 bundled training digits, batches of 64, no workers, on the CPU. PIL: "
    "PIL image, ToTensor, Normalize for each sample, as torchvision's MNIST does; tensor: "
    "each sample a tensor made ready before; both collated by default. Augmented: a new angle for "
    "each image, bilinear. Ratios of minima (10-90 % of the rounds' ratios)."
)


class SampleDataset(Dataset):
    """One sample at a time, through transforms.

    Args:
        images: [N, 1, H, W], uint8 or normalised floats.
        labels: [N].
        transform: what is applied to a sample's image.
    """

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable) -> None:
        self.images = images
        self.labels = labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def benchmark(settings: Settings, data_dir: Path) -> Table:
    """Plain and augmented."""
    data = RotatedMNISTDataModule(data_dir, batch_size=BATCH_SIZE)
    data.prepare_data()
    data.setup()
    rows = []
    for augment in (False, True):
        versions = _loaders(data, augment)
        label = "augmented" if augment else "plain"
        timings = settings.time(versions, f"data {label}")
        count = len(data.train_dataloader().dataset)
        row = {"data": label}
        row |= {f"ours / {name}": timings.ratio(name, "ours") for name in ("PIL", "tensor")}
        row |= {f"{name}, samples/s": count / timings.minimum(name) for name in versions}
        rows.append(row)
    return Table("Rotated digits, samples per second", rows, NOTE)


def _loaders(data: RotatedMNISTDataModule, augment: bool) -> dict[str, Callable[[], None]]:
    """One pass over the training images, by version."""
    loader = data.train_dataloader()
    dataset = loader.dataset
    pixels = (dataset.images * data.std + data.mean).clamp(0, 1)
    turn = [transforms.RandomRotation(180, transforms.InterpolationMode.BILINEAR)]
    from_pil = [transforms.ToTensor(), transforms.Normalize((data.mean,), (data.std,))]
    to_pil = transforms.ToPILImage()
    pil = transforms.Compose([to_pil, *(turn if augment else []), *from_pil])
    tensor = transforms.Compose(turn if augment else [])
    samples = {
        "PIL": SampleDataset((pixels * 255).round().byte(), dataset.labels, pil),
        "tensor": SampleDataset(dataset.images, dataset.labels, tensor),
    }
    passes = {"ours": lambda: _pass(loader, data.augmented if augment else None)}
    for name, each in samples.items():
        sample_loader = DataLoader(each, BATCH_SIZE, shuffle=True)
        passes[name] = lambda sample_loader=sample_loader: _pass(sample_loader)
    return passes


def _pass(loader: DataLoader, augmented: Callable[[Tensor, int], Tensor] | None = None) -> None:
    for images, _ in loader:
        if augmented is not None:
            augmented(images, 0)
