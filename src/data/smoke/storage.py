"""Simulated sets on disk: one compressed, memory-mapped file each, checked when read."""

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.data.smoke.settings import SmokeSettings, difference, stored_shape
from src.errors import UserError

if TYPE_CHECKING:
    from blosc2 import NDArray

CHUNK_FRAMES = 25

# The distributions behind what a file holds, by the names of their modules.
LIBRARIES = {
    "phi": "phiflow",
    "phiml": "phiml",
    "torch": "torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "blosc2": "blosc2",
}

# Five frames of one simulation are compressed together: enough for zstd, few to read in vain.
_BLOCK_FRAMES = 5
_KEYS = ("settings", "versions", "sha256", "max_divergence")


def check_installed(*modules: str) -> None:
    """Raise unless packages of the extra ``smoke`` are installed.

    Raises:
        UserError: naming the missing packages and the command that installs them.
    """
    missing = [LIBRARIES[name] for name in modules if find_spec(name) is None]
    if missing:
        raise UserError(
            f"The smoke plumes need the packages {', '.join(missing)}, which are not installed. "
            "Run `pip install -e '.[smoke]'`."
        )


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide what a file holds."""
    return {package: version(package) for package in LIBRARIES.values()}


def write_set(
    path: Path,
    settings: SmokeSettings,
    segments: Iterable[tuple[int, int, np.ndarray]],
    max_divergence: float,
) -> None:
    """Write a whole set, byte for byte the same for the same frames.

    Args:
        path: of the file; a reader must not see it before this function returns.
        settings: of the set.
        segments: (index of a simulation, index of the first frame, frames ``[t, 2, H, W]``),
            the segments of one simulation in the order of time.
        max_divergence: of the simulated velocities, before they were brought to the cells'
            centres, in 1 / time unit.
    """
    import blosc2

    filters = [blosc2.Filter.SHUFFLE, blosc2.Filter.BYTEDELTA]
    # With more than one thread the order of the blocks in the file is a matter of chance.
    compression = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=5, filters=filters, nthreads=1)
    count, frames, *frame = settings.shape
    array = blosc2.empty(
        settings.shape,
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
    values = (settings.as_json(), library_versions(), [s.hexdigest() for s in sums], max_divergence)
    for key, value in zip(_KEYS, values, strict=True):
        array.schunk.vlmeta[key] = value


class StoredSet:
    """A stored set of simulated velocities, of which only what is indexed is read.

    Attributes:
        path: of the file.
        velocities: ``[S, T, 2, H, W]`` in cells per time unit, component 0 along increasing column
            index; an array on disk, mapped into memory and decompressed where it is indexed.
            Not checked; see `simulation` and `read`.
        settings: text of `SmokeSettings.as_json`.
        versions: of the libraries that made the file.
        max_divergence: largest divergence of the simulated velocities, in 1 / time unit.
    """

    def __init__(self, path: Path, array: "NDArray", notes: dict[str, Any]) -> None:
        self.path = path
        self.velocities = array
        self.settings: str = notes["settings"]
        self.versions: dict[str, str] = notes["versions"]
        self.max_divergence: float = notes["max_divergence"]
        self._sha256: list[str] = notes["sha256"]

    @classmethod
    def open(cls, path: Path, settings: SmokeSettings | None = None) -> "StoredSet":
        """Map a file, and check that it was made with ``settings`` (None: with any).

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged or was made with other settings.
            UserError: if blosc2 is not installed.
        """
        check_installed("blosc2")
        if not path.exists():
            raise FileNotFoundError(
                f"a set must be generated before it is read; {path} does not exist. Call "
                "prepare_data() first, or run python src/generate.py."
            )
        stored = cls(path, *_opened(path))
        if settings is not None and stored.settings != settings.as_json():
            names = difference(stored.settings, settings.as_json())
            raise ValueError(
                f"{path} must hold the set that the config asks for; it was made with another "
                f"{names}. Delete it, or move it away; the set is then generated again."
            )
        return stored

    def __len__(self) -> int:
        return len(self.velocities)

    def simulation(self, index: int) -> np.ndarray:
        """Frames ``[T, 2, H, W]`` of one simulation, compared with their checksum.

        Raises:
            ValueError: if the file is damaged.
        """
        try:
            frames = self.velocities[index]
        except (RuntimeError, ValueError) as error:  # what blosc2 says of blocks it cannot read
            raise _damaged(self.path, str(error)) from error
        got = hashlib.sha256(frames.tobytes()).hexdigest()
        if got != self._sha256[index]:
            raise _damaged(
                self.path, f"the checksum of simulation {index} is {got[:8]}, not the one noted"
            )
        return frames

    def read(self) -> np.ndarray:
        """All frames ``[S, T, 2, H, W]``, compared with their checksums.

        Raises:
            ValueError: if the file is damaged.
        """
        frames = np.empty(self.velocities.shape, self.velocities.dtype)
        for index in range(len(self)):
            frames[index] = self.simulation(index)
        return frames


def _opened(path: Path) -> tuple["NDArray", dict[str, Any]]:
    """The array of a file, and the notes beside it."""
    import blosc2

    try:
        array = blosc2.open(str(path), mode="r", mmap_mode="r")
        notes = {key: array.schunk.vlmeta[key] for key in _KEYS}
        complete = array.shape == stored_shape(notes["settings"]) and len(array) == len(
            notes["sha256"]
        )
    except Exception as error:
        # Damaged bytes surface as many kinds of error: no frame, no such key, no such text, ...
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    if not complete:
        raise _damaged(path, "its shape or its checksums are not those of its settings")
    return array, notes


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path} must hold a set whose checksums are those noted in it, but is damaged: {reason}. "
        "Delete it; the set is then generated again."
    )
