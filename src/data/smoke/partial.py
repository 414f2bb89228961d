"""What an unfinished generation leaves on disk, to go on where it stopped."""

import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np

from src.data.smoke.settings import SmokeSettings
from src.data.smoke.storage import library_versions
from src.files import write_bytes, write_text

_STATE = "state/"


class PartialFrames:
    """Frames of a group of simulations, and the simulations' state behind the last of them.

    Each part of the frames is one file that appears whole, together with the state, or not at all.

    Args:
        folder: of all unfinished parts of a set; made if missing.
        group: number of the group in the set.
    """

    def __init__(self, folder: Path, group: int) -> None:
        self.folder = folder
        self.group = group

    @property
    def num_frames(self) -> int:
        """How many frames are there, from the first on."""
        return max((int(path.stem[-5:]) for path in self._paths()), default=0)

    def save(self, frames: np.ndarray, divergence: float, state: dict[str, np.ndarray]) -> None:
        """Add the next frames ``[n, t, 2, H, W]`` of the group's n simulations."""
        end = self.num_frames + frames.shape[1]
        content = BytesIO()
        arrays = {f"{_STATE}{name}": value for name, value in state.items()}
        np.savez(content, frames=frames, divergence=divergence, **arrays)
        write_bytes(self.folder / f"group-{self.group:03}-to-{end:05}.npz", content.getvalue())

    def parts(self) -> list[Path]:
        """The files in the order of time."""
        return self._paths()

    def state(self) -> dict[str, np.ndarray]:
        """The simulations' state behind the last frame.

        Raises:
            ValueError: if the file is damaged.
        """
        with _opened(self._paths()[-1]) as arrays:
            names = [name for name in arrays if name.startswith(_STATE)]
            return {name.removeprefix(_STATE): arrays[name] for name in names}

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"group-{self.group:03}-to-*.npz"))


def read_part(path: Path, name: str) -> np.ndarray:
    """One array of a file: ``frames`` ``[n, t, 2, H, W]`` or ``divergence``, their largest.

    Raises:
        ValueError: if the file is damaged.
    """
    with _opened(path) as arrays:
        return arrays[name]


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            yield arrays
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} must hold what an interrupted generation wrote, but is damaged: {error}. "
            f"Delete the folder {path.parent}; the generation then starts anew."
        ) from error


def open_folder(path: Path, settings: SmokeSettings, device: str) -> Path:
    """The folder of a set's unfinished parts, empty unless it can be gone on with.

    Args:
        path: of the set's file.
        settings: of the set.
        device: on which it is simulated. Parts of other settings, made on another device or by
            other versions of the libraries, are deleted: no file is made half by one and half by
            another.
    """
    folder = path.with_name(f"{path.name}.partial")
    origin = f"{settings.as_json()}\n{library_versions()}\n{device}\n"
    note = folder / "origin.txt"
    if not note.is_file() or note.read_text(encoding="utf-8") != origin:
        if folder.exists():
            shutil.rmtree(folder)
        write_text(note, origin)
    return folder
