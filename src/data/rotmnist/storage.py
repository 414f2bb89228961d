"""Parsed digits on disk: one tensor file per source, written once, checked when read."""

import io
import logging
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock

from src.data.rotmnist.download import fetch
from src.data.rotmnist.parsing import IMAGE_SIZE, LabelledImages
from src.data.rotmnist.sources import Source
from src.data.rotmnist.splits import SPLITS

log = logging.getLogger(__name__)

# Raise it when parsing or splitting changes: files of another version are then left alone.
_VERSION = 1

_CHECKSUM_BYTES = 4


def prepared_path(source: Source, data_dir: Path) -> Path:
    """The tensor file of a source."""
    return data_dir / source.name / f"digits-v{_VERSION}.pt"


def prepare(source: Source, data_dir: Path, mirrors: Sequence[str] | None = None) -> Path:
    """Make sure that a source's tensor file exists, and return its path.

    Several processes may call this at once on one folder: one does the work, the others wait.

    Args:
        source: what to fetch and parse.
        data_dir: folder of all sources; made if missing.
        mirrors: base addresses instead of the source's own.

    Raises:
        ValueError: if a published file is damaged or has an unexpected number of images.
        ConnectionError: if a file is missing and cannot be downloaded.
    """
    path = prepared_path(source, data_dir)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / ".lock"):
        if not path.exists():
            folder = source.folder(data_dir)
            addresses = source.mirrors if mirrors is None else mirrors
            files = [fetch(source, file, folder, addresses) for file in source.files]
            log.info("Parsing %s once into %s", source.name, path)
            splits = source.parse(files, source.sizes)
            _check_contents(source, splits)
            _save(splits, path)
    return path


def load(source: Source, data_dir: Path) -> dict[str, LabelledImages]:
    """Read the splits of a source that was prepared.

    Raises:
        FileNotFoundError: if the source was not prepared in this folder.
        ValueError: if the tensor file is damaged.
    """
    path = prepared_path(source, data_dir)
    if not path.exists():
        raise FileNotFoundError(
            f"the digits of data.source={source.name} must be prepared before they are loaded; "
            f"{path} does not exist. Call prepare_data() first."
        )
    return _read(path)


def _save(splits: dict[str, LabelledImages], path: Path) -> None:
    content = io.BytesIO()
    torch.save({split: tuple(digits) for split, digits in splits.items()}, content)
    partial = path.with_suffix(".partial")
    partial.write_bytes(content.getvalue() + _checksum(content.getvalue()))
    partial.replace(path)


def _read(path: Path) -> dict[str, LabelledImages]:
    content = memoryview(path.read_bytes())
    tensors, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if _checksum(tensors) != checksum:
        raise ValueError(
            f"{path} must end with the checksum of its content, but is damaged: got "
            f"{checksum.hex()} for {_checksum(tensors).hex()}. Delete it; it is then made again "
            "from the published files."
        )
    digits = torch.load(io.BytesIO(tensors), weights_only=True)
    return {split: LabelledImages(*digits[split]) for split in SPLITS}


def _checksum(content: bytes | memoryview) -> bytes:
    """CRC-32; torch.load itself does not notice a changed byte."""
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES)


def _check_contents(source: Source, splits: dict[str, LabelledImages]) -> None:
    for split, digits in splits.items():
        expected = (source.sizes[split], IMAGE_SIZE, IMAGE_SIZE)
        if tuple(digits.images.shape) != expected or len(digits.labels) != expected[0]:
            raise ValueError(
                f"the {split} split of data.source={source.name} must hold images of shape "
                f"{list(expected)} and as many labels; got {list(digits.images.shape)} and "
                f"{len(digits.labels)} labels. Other digits are at data.source=bundled."
            )
