"""Simulated sets on disk: one compressed, memory-mapped file each, checked when read."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from src.data.smoke.settings import SmokeSettings
from src.errors import UserError

if TYPE_CHECKING:
    from blosc2 import NDArray

CHUNK_FRAMES = 25

# Packages that decide what a file holds; its notes name their versions.
LIBRARIES = ("torch", "numpy", "blosc2")

# Five frames of one simulation are compressed together: enough for zstd, few to read in vain.
_BLOCK_FRAMES = 5


def library_versions(*packages: str) -> dict[str, str]:
    """Versions of packages.

    Raises:
        UserError: if one is not installed; names the command that installs it.
    """
    try:
        return {package: version(package) for package in packages}
    except PackageNotFoundError as error:
        raise UserError(
            f"The smoke plumes need the package {error.name}, which is not installed. Run "
            "`pip install -e '.[smoke]'`."
        ) from error


def write_set(
    path: Path,
    settings: SmokeSettings,
    segments: Iterable[tuple[int, int, np.ndarray]],
    max_divergence: float,
) -> None:
    """Write a whole set, byte for byte the same for the same frames.

    The segments are (index of a simulation, index of the first frame, frames ``[t, 2, H, W]``),
    those of one simulation in the order of time. A reader must not see the file before this
    function returns.
    """
    import blosc2

    filters = [blosc2.Filter.SHUFFLE, blosc2.Filter.BYTEDELTA]
    # With more than one thread the order of the blocks in the file is a matter of chance.
    compression = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=5, filters=filters, nthreads=1)
    count, frames, *frame = _shape(settings.as_json())
    array = blosc2.empty(
        (count, frames, *frame),
        np.dtype(settings.dtype),
        urlpath=str(path),
        mode="w",
        contiguous=True,
        chunks=(1, min(CHUNK_FRAMES, frames), *frame),
        blocks=(1, min(_BLOCK_FRAMES, frames), *frame),
        cparams=compression,
    )
    sums = [hashlib.sha256() for _ in range(count)]
    for simulation, first, part in segments:
        array[simulation, first : first + len(part)] = part
        sums[simulation].update(part.tobytes())
    array.schunk.vlmeta["settings"] = settings.as_json()
    array.schunk.vlmeta["versions"] = library_versions(*LIBRARIES)
    array.schunk.vlmeta["sha256"] = [s.hexdigest() for s in sums]
    array.schunk.vlmeta["max_divergence"] = max_divergence


@dataclass(frozen=True)
class StoredSet:
    """A stored set of simulated frames, of which only what is indexed is read.

    Attributes:
        path: file of the set.
        frames: velocities ``[S, T, 2, H, W]`` in cells per time unit, component 0 along increasing
            column index, or ``[S, T, 3, H, W]`` with the density; an array on disk, mapped into
            memory and decompressed where it is indexed. Not checked; see `read`.
        settings: text of `SmokeSettings.as_json`.
        versions: versions of the libraries that made the file.
        sha256: checksum of each simulation's frames.
        max_divergence: largest divergence of the simulated velocities, before they were brought
            to the cells' centres, in 1 / time unit.
    """

    path: Path
    frames: "NDArray"
    settings: str
    versions: dict[str, str]
    sha256: list[str]
    max_divergence: float

    @classmethod
    def open(cls, path: Path, settings: SmokeSettings | None = None) -> "StoredSet":
        """Map a file, and check that it was made with ``settings`` (None: with any).

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged or was made with other settings.
        """
        library_versions("blosc2")
        import blosc2

        if not path.exists():
            raise FileNotFoundError(
                f"a set must be generated before it is read; {path} does not exist. Call "
                "prepare_data() first, or run python src/generate.py."
            )
        try:
            array = blosc2.open(str(path), mode="r", mmap_mode="r")
            notes = array.schunk.vlmeta
            values = [notes[field.name] for field in fields(cls)[2:]]
            stored = cls(path, array, *values)
            shape = _shape(stored.settings)
        except Exception as error:
            # Damaged bytes surface as many kinds of error: no frame, no such key, no such text, ...
            raise _damaged(path, f"{type(error).__name__}: {error}") from error
        if array.shape != shape or len(stored.sha256) != shape[0]:
            raise _damaged(path, "its shape or its checksums are not those of its settings")
        if settings is not None and stored.settings != settings.as_json():
            raise ValueError(
                f"{path} must hold the set that the config asks for; it was made with other "
                "settings. Delete it, or move it away; the set is then generated again."
            )
        return stored

    def read(self) -> np.ndarray:
        """All frames, compared with their checksums.

        Raises:
            ValueError: if the file is damaged.
        """
        frames = np.empty(self.frames.shape, self.frames.dtype)
        for index, expected in enumerate(self.sha256):
            try:
                frames[index] = self.frames[index]
            except (RuntimeError, ValueError) as error:  # blosc2's, of blocks that it cannot read
                raise _damaged(self.path, str(error)) from error
            if hashlib.sha256(frames[index].tobytes()).hexdigest() != expected:
                raise _damaged(self.path, f"simulation {index} has another checksum")
        return frames


def _shape(settings: str) -> tuple[int, int, int, int, int]:
    """Shape of the frames of a set, from the text of its settings."""
    read = json.loads(settings)
    frames, channels = read["num_steps"] - read["skip_frames"], 2 + read.get("density", False)
    return len(read["plumes"]), frames, channels, read["resolution"], read["resolution"]


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path} must hold a set whose checksums are those noted in it, but is damaged: {reason}. "
        "Delete it; the set is then generated again."
    )
