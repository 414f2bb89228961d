"""Samples per second of the loader of rotated digits, against one sample at a time."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms

from scripts.benchmarks.tables import Table
from scripts.benchmarks.timing import Settings
from src.data.rotmnist.datamodule import RotatedMNISTDataModule

BATCH_SIZE = 64
NOTE = (
    "One pass over the 3,500 bundled training digits, batches of 64, no workers, on the CPU. PIL: "
    "PIL image, ToTensor, Normalize for each sample, as torchvision's MNIST does; tensor: "
    "each sample a tensor made ready before; both collated by default. Augmented: a new angle for "
    "each image, bilinear. Ratios of minima (10-90 % of the rounds' ratios)."
)


class SampleDataset:
    """One sample at a time, through a transform of its image."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable) -> None:
        self.images, self.labels, self.transform = images, labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def benchmark(settings: Settings, data_dir: Path) -> Table:
    """Plain and augmented."""
    data = RotatedMNISTDataModule(data_dir, batch_size=BATCH_SIZE)
    data.prepare_data()
    data.setup()
    loader = data.train_dataloader()
    images, labels = loader.dataset.images, loader.dataset.labels
    pixels = ((images * data.std + data.mean).clamp(0, 1) * 255).round().byte()
    normalize = [transforms.ToTensor(), transforms.Normalize((data.mean,), (data.std,))]
    rotation = transforms.RandomRotation(180, transforms.InterpolationMode.BILINEAR)

    def one_pass(batches: DataLoader, augmented: Callable | None = None) -> Callable[[], None]:
        def run() -> None:
            for images, _ in batches:
                if augmented is not None:
                    augmented(images, 0)

        return run

    rows = []
    for label, turn in (("plain", []), ("augmented", [rotation])):
        pil = transforms.Compose([transforms.ToPILImage(), *turn, *normalize])
        samples = {
            "PIL": SampleDataset(pixels, labels, pil),
            "tensor": SampleDataset(images, labels, transforms.Compose(turn)),
        }
        versions = {"ours": one_pass(loader, data.augmented if turn else None)}
        for name, each in samples.items():
            versions[name] = one_pass(DataLoader(each, BATCH_SIZE, shuffle=True))
        timings = settings.time(versions, f"data {label}")
        row = {"data": label}
        row |= {f"ours / {name}": timings.ratio(name, "ours") for name in samples}
        row |= {f"{name}, samples/s": len(labels) / timings.minimum(name) for name in versions}
        rows.append(row)
    return Table("Rotated digits, samples per second", rows, NOTE)
