"""A set of smoke plumes, made ahead of its use and looked at."""

import logging

import torch
from lightning import LightningDataModule

from src.checks import wrong
from src.data.smoke.datamodule import SmokeDataModule
from src.data.smoke.plumes import SIDES
from src.errors import UserError
from src.runs.run import Run

log = logging.getLogger(__name__)


def run_generation(run: Run, datamodule: LightningDataModule) -> None:
    """Simulate the set that a data module needs, or find it; check it, measure it and draw it.

    The last line of the log gives the equivariance error of the data, or says that it has none.

    Raises:
        UserError: if the data module has no set of smoke plumes, or a package is not installed.
        ValueError: if the file is damaged or was made with other settings.
    """
    if not isinstance(datamodule, SmokeDataModule):
        rule, got = "a set of smoke plumes, which can be generated", type(datamodule).__name__
        raise UserError(wrong("data", rule, got, "data=smoke_level data.level=4"))
    datamodule.prepare_data()
    stored = datamodule.stored_set()
    frames = torch.from_numpy(stored.read())
    pictures = ()
    if run.config.plot:
        from src.plots.fields import plot_set  # importing matplotlib takes seconds

        plumes = datamodule.settings.plumes
        titles = [f"{SIDES[p.side]} ({', '.join(map(str, p.task))})" for p in plumes]
        pictures = plot_set(stored.frames, titles, stored.path.with_suffix(""))
    error = datamodule.measure_equivariance(frames)
    run.summary |= {
        "task": run.config.task_name,
        "file": str(stored.path),
        "shape": list(frames.shape),
        "versions": stored.versions,
        "max_divergence": stored.max_divergence,
        "equivariance_error": error,
        "pictures": [str(picture) for picture in pictures],
    }
    count, length, _, height, width = frames.shape
    log.info("%d simulations, %d frames of %d x %d cells", count, length, height, width)
    log.info("Stored in %.1f MB: %s", stored.path.stat().st_size / 1e6, stored.path)
    for picture in pictures:
        log.info("Picture: %s", picture)
    log.info("Largest divergence of the simulated velocities: %.1e", stored.max_divergence)
    undefined = "not defined: the plumes are not one plume turned to the four sides."
    log.info("Equivariance error of the data: %s", undefined if error is None else f"{error:.3f}")
