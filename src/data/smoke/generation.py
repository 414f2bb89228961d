"""Simulate a set once: in one process while others wait, going on where it was interrupted."""

import io
import logging
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from filelock import Timeout
from tqdm import tqdm

from src.data.smoke.plumes import Plume
from src.data.smoke.settings import SmokeSettings
from src.data.smoke.simulation import Simulation, group_by_resolution
from src.data.smoke.storage import CHUNK_FRAMES, LIBRARIES, library_versions, write_set
from src.files import write_bytes, write_text
from src.locks import file_lock

log = logging.getLogger(__name__)

_BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed} so far, {remaining} left"
_STATE = "state/"


def prepare(settings: SmokeSettings, data_dir: Path, device: str = "cpu") -> Path:
    """Make sure that a set's file exists below ``data_dir``, and return its path.

    Several processes may call this at once on one folder: one simulates, the others wait. What is
    simulated is kept in ``<file>.partial`` every 25 frames, so that an interrupted generation goes
    on there and ends with the same file. The file itself appears when it is complete.

    Raises:
        UserError: if a package of the extra ``smoke`` is not installed.
        ValueError: if what an interrupted generation left is damaged.
    """
    path = settings.path(data_dir)
    if path.exists():
        return path
    library_versions(*LIBRARIES)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = file_lock(path.with_name(f".{path.name}.lock"))
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        log.info("Waiting for another process that generates %s", path)
        held = lock.acquire()
    with held:
        if not path.exists():
            _generate(settings, path, device)
    return path


def _generate(settings: SmokeSettings, path: Path, device: str) -> None:
    """Simulate the set group by group, then put its parts together.

    Parts that other settings, libraries or devices made are deleted before.
    """
    folder = path.with_name(f"{path.name}.partial")
    origin = f"{settings.as_json()}\n{library_versions(*LIBRARIES)}\n{device}\n"
    note = folder / "origin.txt"
    if not note.is_file() or note.read_text(encoding="utf-8") != origin:
        shutil.rmtree(folder, ignore_errors=True)
        write_text(note, origin)
    groups = group_by_resolution(settings.plumes)
    parts = [PartialFrames(folder, number) for number in range(len(groups))]
    work = sum(plume.resolution**2 for plume in settings.plumes) * settings.num_steps
    seconds = 0.5 if sys.stderr.isatty() else 10  # a log file gets fewer lines
    log.info("Generating %d simulations once into %s", len(settings.plumes), path)
    try:
        with tqdm(total=work, desc=settings.name, bar_format=_BAR, mininterval=seconds) as bar:
            for indices, done in zip(groups, parts, strict=True):
                _simulate(settings, indices, done, device, bar)
    except KeyboardInterrupt:
        log.warning("Interrupted. The same command goes on from what is in %s", folder)
        raise
    unfinished = folder / "complete.b2nd"
    files = (file for part in parts for file in part.files())
    divergence = max(float(read_part(file, "divergence")["divergence"]) for file in files)
    write_set(unfinished, settings, _segments(groups, parts), divergence)
    unfinished.replace(path)
    shutil.rmtree(folder)


def _simulate(
    settings: SmokeSettings, indices: list[int], done: "PartialFrames", device: str, bar: tqdm
) -> None:
    """Simulate those frames of a group that are not done yet; the bar counts cells times steps."""
    plumes = [settings.plumes[index] for index in indices]
    cells = len(plumes) * plumes[0].resolution ** 2
    first, last = indices[0] + 1, indices[-1] + 1
    which = f"simulation {first}" if first == last else f"simulations {first} to {last}"
    start = settings.skip_frames + done.num_frames if done.num_frames else 0
    bar.initial += start * cells  # not made by this process: no part in its speed
    bar.update(start * cells)
    if start == settings.num_steps:
        return
    simulation = Simulation(
        plumes,
        velocity_dt=settings.velocity_dt,
        smoke_dt=settings.smoke_dt,
        dtype=settings.dtype,
        device=device,
    )
    if start:
        log.info("Going on from step %d", start)
        simulation.restore(done.state())
    frames, divergences = [], []
    for step in range(start + 1, settings.num_steps + 1):
        simulation.step()
        text = f"{settings.name}: step {step} of {settings.num_steps}, {which} of "
        bar.set_description(f"{text}{len(settings.plumes)}", refresh=False)
        bar.update(cells)
        if step <= settings.skip_frames:
            continue
        frame = simulation.velocity(settings.layout)
        if settings.density:
            frame = np.concatenate([frame, simulation.density()], 1)
        frames.append(stored_frame(frame, plumes, settings.resolution))
        divergences.append(simulation.max_divergence())
        if len(frames) == CHUNK_FRAMES or step == settings.num_steps:
            done.save(np.stack(frames, 1), max(divergences), simulation.state())
            frames, divergences = [], []


def stored_frame(frame: np.ndarray, plumes: Sequence[Plume], resolution: int) -> np.ndarray:
    """Bring frames to the stored resolution, velocities in cells of the stored grid per time unit.

    A plume that is magnified by f was simulated on a grid f times as fine. Its frames are
    averaged down bilinearly with antialiasing (a triangle f cells wide to each side, clipped at
    the walls), which commutes with quarter turns, and velocities divided by f. Frames are
    ``[S, 2, N, N]``, one simulation per plume, or ``[S, 3, N, N]`` with the density, which has no
    unit of length; the result has N = ``resolution``.
    """
    if frame.shape[-1] != resolution:
        size = (resolution, resolution)
        fine = torch.from_numpy(frame)
        frame = F.interpolate(fine, size, mode="bilinear", antialias=True).numpy()
    factors = np.ones(frame.shape[:2], frame.dtype)
    factors[:, :2] = [[plume.magnification] for plume in plumes]
    return frame / factors[..., None, None]


def _segments(
    groups: list[list[int]], parts: list["PartialFrames"]
) -> Iterator[tuple[int, int, np.ndarray]]:
    """(simulation, first frame, frames ``[t, 2, H, W]``) of everything, in the order of time."""
    for indices, part in zip(groups, parts, strict=True):
        first = 0
        for file in part.files():
            frames = read_part(file, "frames")["frames"]
            for simulation, own in zip(indices, frames, strict=True):
                yield simulation, first, own
            first += frames.shape[1]


@dataclass(frozen=True)
class PartialFrames:
    """Frames of one group of plumes: files of up to 25, each with the state behind its last."""

    folder: Path
    group: int

    @property
    def num_frames(self) -> int:
        """Number of frames that are kept, from the first on."""
        return max((int(path.stem[-5:]) for path in self.files()), default=0)

    def files(self) -> list[Path]:
        """The parts in the order of time."""
        return sorted(self.folder.glob(f"group-{self.group:03}-to-*.npz"))

    def save(self, frames: np.ndarray, divergence: float, state: dict[str, np.ndarray]) -> None:
        """Add the next frames ``[n, t, 2, H, W]`` of the group's n simulations."""
        end = self.num_frames + frames.shape[1]
        content = io.BytesIO()
        arrays = {f"{_STATE}{name}": value for name, value in state.items()}
        np.savez(content, frames=frames, divergence=divergence, **arrays)
        write_bytes(self.folder / f"group-{self.group:03}-to-{end:05}.npz", content.getvalue())

    def state(self) -> dict[str, np.ndarray]:
        """The simulations' state behind the last frame."""
        arrays = read_part(self.files()[-1], _STATE)
        return {name.removeprefix(_STATE): array for name, array in arrays.items()}


def read_part(path: Path, prefix: str) -> dict[str, np.ndarray]:
    """Arrays of a part whose names begin so: ``frames``, ``divergence`` (largest) or ``state/``.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return {name: arrays[name] for name in arrays.files if name.startswith(prefix)}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} must hold what an interrupted generation wrote, but is damaged: {error}. "
            f"Delete the folder {path.parent}; the generation then starts anew."
        ) from error
