"""Digits on disk: one tensor file per source, written once, checked when read."""

import io
import logging
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch

from src.data.rotmnist.sources import IMAGE_SIZE, LabelledImages, Source, Splits
from src.files import write_bytes
from src.locks import file_lock

log = logging.getLogger(__name__)

# Raise it when parsing or splitting changes: files of another version are then left alone.
_VERSION = 1


def prepared_path(source: Source, data_dir: Path) -> Path:
    """The tensor file of a source."""
    return data_dir / source.name / f"digits-v{_VERSION}.pt"


def prepare(source: Source, data_dir: Path, mirrors: Sequence[str] | None = None) -> Path:
    """Make sure that a source's tensor file exists below ``data_dir``, and return its path.

    Several processes may call this at once on one folder: one does the work, the others wait.
    ``mirrors`` are base addresses to download from instead of the source's own.

    Raises:
        ValueError: if a published file is damaged or has an unexpected number of images.
        ConnectionError: if a file is missing and cannot be downloaded.
    """
    path = prepared_path(source, data_dir)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(path.parent / ".lock"):
        if path.exists():
            return path
        log.info("Preparing the digits of %s once in %s", source.name, path)
        splits = source.read(data_dir, source.sizes, mirrors)
        for split, digits in splits.items():
            expected, got = source.sizes[split], tuple(digits.images.shape)
            if got != (expected, IMAGE_SIZE, IMAGE_SIZE) or len(digits.labels) != expected:
                raise ValueError(
                    f"the {split} split of data.source={source.name} must hold {expected} images "
                    f"of 28 x 28 pixels and as many labels; got images of shape {list(got)} and "
                    f"{len(digits.labels)} labels. Use data.source=bundled."
                )
        buffer = io.BytesIO()
        torch.save({split: tuple(digits) for split, digits in splits.items()}, buffer)
        content = buffer.getvalue()
        write_bytes(path, content + zlib.crc32(content).to_bytes(4))
    return path


def load(source: Source, data_dir: Path) -> Splits:
    """Read the splits of a source that was prepared.

    Raises:
        FileNotFoundError: if the source was not prepared in this folder.
        ValueError: if the tensor file is damaged.
    """
    path = prepared_path(source, data_dir)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. Call prepare_data() before setup().")
    content = memoryview(path.read_bytes())
    tensors, checksum = content[:-4], content[-4:]
    if zlib.crc32(tensors).to_bytes(4) != checksum:  # torch.load does not notice a changed byte
        raise ValueError(f"{path} is damaged. Delete it; it is then made again.")
    digits = torch.load(io.BytesIO(tensors), weights_only=True)
    return {split: LabelledImages(*parts) for split, parts in digits.items()}
