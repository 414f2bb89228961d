"""Measures of stored checkpoints: which are to be taken, on which samples, and what is kept."""

import logging
import time
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import instantiate
from lightning import LightningDataModule, LightningModule
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from src.data.samples import first_loader, first_samples, spread_samples
from src.errors import UserError
from src.loggers.wandb_measures import update_wandb_run
from src.measures import PathPoint, Reading, Subject
from src.plots.measures import draw
from src.plots.style import save_figure
from src.runs.building import build
from src.runs.checkpoints import Stored, find_checkpoints, load_checkpoint, load_weights, position
from src.runs.console import values_table
from src.runs.evaluation import evaluation_config
from src.runs.measure_store import fingerprint
from src.runs.overrides import command_line
from src.runs.run import Run, prepare_new_run

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
SPREAD = ("train",)  # splits of which samples are taken at equal distances


class Job(NamedTuple):
    """One measure of one checkpoint, and the mark of what it depends on."""

    stored: Stored
    name: str
    fingerprint: str


class Measured:
    """Network and data of checkpoints that were trained with one config.

    Args:
        config: as `evaluation_config` makes it.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.module: LightningModule = build(config, "model")
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        self.trainer = build(config, "trainer", **quiet)

    @cached_property
    def datamodule(self) -> LightningDataModule:
        """The data, loaded when first asked for."""
        datamodule = build(self.config, "data")
        datamodule.prepare_data()
        datamodule.setup()
        return datamodule

    def load(self, checkpoint: Mapping[str, Any], path: Path) -> None:
        """Put a checkpoint's weights into the module, on the device to measure on."""
        load_weights(self.module, checkpoint, path)
        self.module.to(self.trainer.strategy.root_device)

    def batches(self, split: str, num_samples: int) -> list[Any]:
        """Fixed samples of a split, without augmentation, on the device to measure on.

        Of training data they lie at equal distances over the set; of validation and test data
        they are the first ones, as in the callbacks.
        """
        loader = first_loader(getattr(self.datamodule, f"{split}_dataloader")())
        read = spread_samples if split in SPREAD else first_samples
        strategy = self.trainer.strategy
        return [
            strategy.batch_to_device(b, strategy.root_device) for b in read(loader, num_samples)
        ]

    def test(self) -> dict[str, float]:
        """The metrics of all test data."""
        per_loader = self.trainer.test(self.module, datamodule=self.datamodule, verbose=False)
        self.module.to(self.trainer.strategy.root_device)
        return {name: value for metrics in per_loader for name, value in metrics.items()}

    def path(self, stored: Stored, batches: list[Any]) -> list[PathPoint]:
        """The states that the run kept along training, up to this checkpoint's, which is last.

        The module is left in the last one.
        """
        end = load_checkpoint(stored.path)
        points = []
        for file in (*stored.earlier(end["global_step"]), stored.path):
            checkpoint = load_checkpoint(file)
            self.load(checkpoint, file)
            state = self.module.objective(batches).network.state_dict()
            copies = {name: tensor.clone() for name, tensor in state.items()}
            points.append(PathPoint(copies, **position(checkpoint)))
        return points


def prepare_measuring(composed: DictConfig) -> Run:
    """Start a run that measures.

    Raises:
        UserError: without something to measure, or with an entry of a measure out of its range.
    """
    if OmegaConf.is_missing(composed, "ckpt_path") or composed.ckpt_path is None:
        raise UserError(
            "`ckpt_path` must be a checkpoint, a run directory or the directory of a sweep; got "
            "none. Use ckpt_path=logs/train/runs/<date>, for example."
        )
    for name, entry in composed.measure.items():
        _check_entry(name, entry)
    composed.seed = 0 if composed.seed is None else composed.seed
    return prepare_new_run(composed)


def run_measuring(run: Run) -> dict[str, dict[str, float]]:
    """Take every measure that the config names of every checkpoint that it names.

    What was measured before with the same settings is left out. Each result is written at once,
    so that the same command goes on where it was interrupted.

    Returns:
        Values by checkpoint and by name, those found before among them.
    """
    out = None if run.config.out is None else Path(str(run.config.out))
    checkpoints = find_checkpoints(Path(str(run.config.ckpt_path)), out)
    results: dict[str, dict[str, float]] = {str(stored.path): {} for stored in checkpoints}
    jobs = _jobs(checkpoints, run.config)
    missing = [job for job in jobs if not _known(job, run.config, results)]
    run.summary |= {"task": run.config.task_name, "measures": len(jobs), "measured": 0}
    if len(missing) < len(jobs):
        log.info("%d of %d measures were taken before.", len(jobs) - len(missing), len(jobs))
    try:
        _take_all(missing, run, results)
    except KeyboardInterrupt:
        log.warning("Interrupted. The same command goes on with what is left.")
        raise
    if run.config.update_wandb:
        _update_wandb(checkpoints, results)
    _tell(checkpoints, results)
    return results


def _jobs(checkpoints: list[Stored], config: DictConfig) -> list[Job]:
    """All measures that are asked for; those of one checkpoint come together."""
    changes = [text for text in command_line() if text.startswith(("data", "model"))]
    jobs = []
    for stored in checkpoints:
        for name, entry in config.measure.items():
            if stored.asked_for or entry.only in (None, stored.path.name):
                settings = {**_settings(entry), "changes": changes}
                jobs.append(Job(stored, name, fingerprint(settings, stored.path)))
    if not jobs:
        raise UserError(
            "there must be a checkpoint of the name that a measure asks for; got "
            f"{', '.join(f'measure.{n}.only={e.only}' for n, e in config.measure.items())}. Name "
            "one that exists, or null for all."
        )
    return jobs


def _known(job: Job, config: DictConfig, results: dict[str, dict[str, float]]) -> bool:
    """Whether a measure was taken before; its values then go to the results."""
    if config.again:
        return False
    known = job.stored.store.find(job.stored.key, job.name, job.fingerprint)
    if known is not None:
        results[str(job.stored.path)].update(known["values"])
    return known is not None


def _take_all(jobs: list[Job], run: Run, results: dict[str, dict[str, float]]) -> None:
    shown = run.config.trainer.enable_progress_bar
    measured: Measured | None = None
    with logging_redirect_tqdm(), tqdm(jobs, disable=not shown) as bar:
        for job in bar:
            bar.set_description(f"{job.stored.key}: {job.name}")
            checkpoint = load_checkpoint(job.stored.path)
            config = evaluation_config(run.config, checkpoint["config"])
            if measured is None or measured.config != config:
                measured = Measured(config)
            measured.load(checkpoint, job.stored.path)
            reading = _take(job, measured, position(checkpoint))
            results[str(job.stored.path)].update(reading.values)
            run.summary["measured"] += 1


def _take(job: Job, measured: Measured, at: dict[str, float]) -> Reading:
    """Take one measure of the checkpoint that is loaded, and keep it."""
    stored, entry = job.stored, measured.config.measure[job.name]
    started = time.monotonic()
    batches = measured.batches(entry.split, entry.num_samples)
    shown = measured.config.trainer.enable_progress_bar
    subject = Subject(
        measured.module,
        batches,
        score=measured.test,
        path=lambda: measured.path(stored, batches),
        progress=partial(tqdm, leave=False, disable=not shown),
    )
    reading: Reading = instantiate(entry.probe, _convert_="all")(subject)
    kept = {
        "fingerprint": job.fingerprint,
        "settings": _settings(entry),
        "num_samples": sum(len(inputs) for inputs in subject.inputs()),
        "seconds": round(time.monotonic() - started, 3),
        "values": reading.values,
        "details": reading.details,
    }
    stored.store.add(stored.key, at, job.name, kept)
    figure = draw(job.name, reading, f"epoch {at['epochs_trained']:g} of {stored.run.name}")
    if figure is not None:
        save_figure(figure, stored.picture(job.name))
    return reading


def _check_entry(name: str, entry: DictConfig) -> None:
    samples = entry.num_samples
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise UserError(
            f"`measure.{name}.num_samples` must be a whole number of at least 1; got {samples!r}. "
            f"Use measure.{name}.num_samples=128."
        )
    if entry.split not in SPLITS:
        raise UserError(
            f"`measure.{name}.split` must be one of {', '.join(SPLITS)}; got {entry.split!r}. Use "
            f"measure.{name}.split=val."
        )


def _settings(entry: DictConfig) -> dict[str, Any]:
    """What a measure is taken with, as plain values."""
    plain = OmegaConf.to_container(entry, resolve=True)
    return {key: value for key, value in plain.items() if key != "only"}


def _update_wandb(checkpoints: list[Stored], results: dict[str, dict[str, float]]) -> None:
    for directory in dict.fromkeys(stored.run for stored in checkpoints):
        of_run = {
            stored.path.stem: results[str(stored.path)]
            for stored in checkpoints
            if stored.run == directory
        }
        update_wandb_run(directory, of_run)


def _tell(checkpoints: list[Stored], results: dict[str, dict[str, float]]) -> None:
    """Log the figures of the last checkpoint, and where all of them are."""
    last = str(checkpoints[-1].path)
    values = {name: value for name, value in results[last].items() if "/" not in name}
    if values:
        log.info("\n%s\n%s", last, values_table(values))
    folders = list(dict.fromkeys(str(stored.store.folder) for stored in checkpoints))
    told = folders if len(folders) < 4 else [*folders[:2], f"... ({len(folders)} folders)"]
    log.info("Measures of %d checkpoints: %s", len(checkpoints), ", ".join(told))
