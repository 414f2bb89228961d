"""Simulate a set once: in one process while others wait, going on where it was interrupted."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from src.data.smoke.partial import PartialFrames, open_folder, read_part
from src.data.smoke.progress import Progress
from src.data.smoke.resampling import stored_frame
from src.data.smoke.settings import SmokeSettings
from src.data.smoke.simulation import Simulation, group_by_resolution
from src.data.smoke.storage import CHUNK_FRAMES, check_installed, write_set

log = logging.getLogger(__name__)

Groups = list[list[int]]


def prepare(settings: SmokeSettings, data_dir: Path, device: str = "cpu") -> Path:
    """Make sure that a set's file exists, and return its path.

    Several processes may call this at once on one folder: one simulates, the others wait. What is
    simulated is kept in ``<file>.partial`` every 25 frames, so that an interrupted generation goes
    on there and ends with the same file. The file itself appears when it is complete.

    Args:
        settings: of the set.
        data_dir: folder of all data; made if missing.
        device: on which to simulate, e.g. ``cpu`` or ``cuda``.

    Raises:
        UserError: if a package of the extra ``smoke`` is not installed.
        ValueError: if what an interrupted generation left is damaged.
    """
    path = settings.path(data_dir)
    if path.exists():
        return path
    check_installed("phi", "blosc2")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if not path.exists():
            _generate(settings, path, device)
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a set; say so when another process has it."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("Waiting for another process that generates %s", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _generate(settings: SmokeSettings, path: Path, device: str) -> None:
    folder = open_folder(path, settings, device)
    groups = group_by_resolution(settings.plumes)
    parts = [PartialFrames(folder, number) for number in range(len(groups))]
    log.info("Generating %d simulations once into %s", len(settings.plumes), path)
    try:
        with Progress(settings, groups) as progress:
            for indices, done in zip(groups, parts, strict=True):
                _simulate(settings, indices, done, device, progress)
    except KeyboardInterrupt:
        log.warning("Interrupted. The same command goes on from what is in %s", folder)
        raise
    _write(settings, groups, parts, path)
    shutil.rmtree(folder)


def _simulate(
    settings: SmokeSettings,
    indices: list[int],
    done: PartialFrames,
    device: str,
    progress: Progress,
) -> None:
    """Simulate those frames of a group that are not done yet."""
    first = done.num_frames
    progress.start(indices, settings.skip_frames + first if first else 0)
    if first == settings.num_frames:
        return
    simulation = _start(settings, indices, device)
    if first:
        log.info("Going on from step %d", settings.skip_frames + first)
        simulation.restore(done.state())
    for _ in range(0 if first else settings.skip_frames):
        simulation.step()
        progress.advance()
    for start in range(first, settings.num_frames, CHUNK_FRAMES):
        frames, divergences = [], []
        for _ in range(min(CHUNK_FRAMES, settings.num_frames - start)):
            simulation.step()
            frames.append(_frame(settings, indices, simulation))
            divergences.append(simulation.max_divergence())
            progress.advance()
        done.save(np.stack(frames, 1), max(divergences), simulation.state())


def _start(settings: SmokeSettings, indices: list[int], device: str) -> Simulation:
    return Simulation(
        [settings.plumes[index] for index in indices],
        velocity_dt=settings.velocity_dt,
        smoke_dt=settings.smoke_dt,
        dtype=settings.dtype,
        device=device,
    )


def _frame(settings: SmokeSettings, indices: list[int], simulation: Simulation) -> np.ndarray:
    plumes = [settings.plumes[index] for index in indices]
    return stored_frame(simulation.velocity(settings.layout), plumes, settings.resolution)


def _write(settings: SmokeSettings, groups: Groups, parts: list[PartialFrames], path: Path) -> None:
    """Put the parts together; the file gets its name when it is complete."""
    divergences = [read_part(file, "divergence") for part in parts for file in part.parts()]
    unfinished = parts[0].folder / "complete.b2nd"
    write_set(unfinished, settings, _segments(groups, parts), float(max(divergences)))
    unfinished.replace(path)


def _segments(groups: Groups, parts: list[PartialFrames]) -> Iterator[tuple[int, int, np.ndarray]]:
    """(simulation, first frame, frames ``[t, 2, H, W]``) of everything, in the order of time."""
    for indices, part in zip(groups, parts, strict=True):
        first = 0
        for file in part.parts():
            frames = read_part(file, "frames")
            for simulation, own in zip(indices, frames, strict=True):
                yield simulation, first, own
            first += frames.shape[1]
