"""A set of smoke plumes, made ahead of its use and looked at."""

import logging
from pathlib import Path

import torch
from lightning import LightningDataModule

from src.data.smoke.datamodule import SmokeDataModule
from src.data.smoke.plumes import SIDES, Plume
from src.data.smoke.storage import StoredSet
from src.errors import UserError
from src.runs.run import Run

log = logging.getLogger(__name__)


def run_generation(run: Run, datamodule: LightningDataModule) -> Path:
    """Simulate the set that a data module needs, or find it; check it, measure it and draw it.

    The last line that is logged ends in the equivariance error of the data to three decimals, or
    says that there is none.

    Returns:
        The file of the set.

    Raises:
        UserError: if the data module has no set of smoke plumes, or a package is not installed.
        ValueError: if the file is damaged or was made with other settings.
    """
    if not isinstance(datamodule, SmokeDataModule):
        raise UserError(
            "`data` must be a set of smoke plumes, which can be generated; got "
            f"{type(datamodule).__name__}. Use data=smoke_level data.level=4."
        )
    datamodule.prepare_data()
    stored = datamodule.stored_set()
    velocities = torch.from_numpy(stored.read())
    pictures = _plot(stored, datamodule.settings.plumes) if run.config.plot else []
    error = datamodule.measure_equivariance(velocities)
    run.summary |= {
        "task": run.config.task_name,
        "file": str(stored.path),
        "shape": list(velocities.shape),
        "versions": stored.versions,
        "max_divergence": stored.max_divergence,
        "equivariance_error": error,
        "pictures": [str(picture) for picture in pictures],
    }
    _log(stored, pictures, error)
    return stored.path


def _plot(stored: StoredSet, plumes: tuple[Plume, ...]) -> tuple[Path, Path]:
    from src.plots.plumes import plot_set  # importing matplotlib takes seconds

    titles = [f"{SIDES[p.side]} ({', '.join(map(str, p.task))})" for p in plumes]
    return plot_set(stored.velocities, titles, stored.path.with_suffix(""))


def _log(stored: StoredSet, pictures: tuple[Path, ...], error: float | None) -> None:
    count, frames, _, height, width = stored.velocities.shape
    size = stored.path.stat().st_size / 1e6
    log.info("%d simulations, %d frames of %d x %d cells", count, frames, height, width)
    log.info("Stored in %.1f MB: %s", size, stored.path)
    for picture in pictures:
        log.info("Picture: %s", picture)
    log.info("Largest divergence of the simulated velocities: %.1e", stored.max_divergence)
    if error is None:
        log.info(
            "The equivariance error of the data is not defined: the plumes are not one plume "
            "turned to the four sides."
        )
    else:
        log.info("Equivariance error of the data: %.3f", error)
