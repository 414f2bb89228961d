"""The idx files of MNIST, plain or gzipped, checked by what they hold."""

import gzip
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

UNSIGNED_BYTES = b"\0\0\x08"  # how an idx file of bytes begins; the number of axes follows


def find_idx(folders: Sequence[Path], name: str, num_axes: int) -> np.ndarray | None:
    """The array of the first readable idx file of that name, or None where there is no file.

    Also looks for `<name>.gz` and for the spelling with a dot, such as `train-images.idx3-ubyte`.

    Raises:
        ValueError: if there are files, and none of them can be read.
    """
    names = [n + end for n in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    paths = [path for folder in folders for n in names if (path := folder / n).is_file()]
    problems = []
    for path in paths:
        try:
            return read_idx(path, num_axes)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return None


def read_idx(path: Path, num_axes: int) -> np.ndarray:
    """Read an idx file of bytes with so many axes; it may be gzipped, whatever its name.

    Raises:
        ValueError: if it is anything else, or cut off.
    """
    content, got = path.read_bytes(), ""
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            got = f"a gzipped file that cannot be unpacked ({error})"
    start = 4 + 4 * num_axes
    if not got and (content[:3] != UNSIGNED_BYTES or content[3:4] != bytes([num_axes])):
        got = f"a file that begins with {content[:4].hex(' ') or 'nothing'}"
    if not got:
        shape = np.frombuffer(content[4:start].ljust(4 * num_axes, b"\0"), ">i4").tolist()
        if len(content) == start + prod(shape):
            return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
        got = f"{len(content) - start} bytes for the sizes {shape}"
    raise ValueError(
        f"{path} must be an idx file of bytes with {num_axes} axes, plain or gzipped; got {got}. "
        "Put a whole one in its place, or move it elsewhere, so that it is downloaded."
    )
