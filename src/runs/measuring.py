"""Measures of stored checkpoints: which are to be taken, on which samples, and what is kept."""

import logging
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from src.checks import check_choice, check_integer
from src.errors import UserError
from src.files import check_writable, write_bytes
from src.loggers.wandb_measures import update_wandb_run
from src.measures import Reading, Subject
from src.measures.batch_norm import statistics_of
from src.plots.measures import draw
from src.plots.style import save_figure
from src.runs.checkpoints import (
    Stored,
    find_checkpoints,
    fingerprint,
    load_checkpoint,
    position,
)
from src.runs.config_checks import SPLITS
from src.runs.console import table
from src.runs.measured import Measured
from src.runs.overrides import command_line, evaluation_config
from src.runs.run import Run, prepare_new_run

log = logging.getLogger(__name__)


class Job(NamedTuple):
    """One measure of one checkpoint, what it is taken with, and the hash of what it depends on."""

    stored: Stored
    at: dict[str, float]  # its position
    name: str
    settings: dict[str, Any]
    fingerprint: str

    @property
    def result(self) -> tuple[Path, str]:
        """What jobs of one result share: equal weights of one run, measured alike."""
        return self.stored.run, self.fingerprint

    def known(self) -> dict[str, Any] | None:
        """The entry in the store, if it was measured before."""
        return self.stored.store.find(self.stored.key, self.name, self.fingerprint)

    def keep(self, entry: dict[str, Any]) -> None:
        """Put an entry into the store."""
        self.stored.store.add(self.stored.key, self.at, self.name, entry)


def prepare_measuring(composed: DictConfig) -> Run:
    """Check the entries of the measures, and start the run that takes them."""
    for name, entry in composed.measure.items():
        check_integer(f"measure.{name}.num_samples", entry.num_samples)
        check_choice(f"measure.{name}.split", entry.split, SPLITS)
    check_integer("statistics_samples", composed.statistics_samples, minimum=0)
    composed.seed = 0 if composed.seed is None else composed.seed
    return prepare_new_run(composed)


def run_measuring(run: Run) -> None:
    """Take every measure that the config names of every checkpoint that it names.

    What was measured before with the same settings is left out, and what was measured of another
    checkpoint of the run with the same weights is copied. Each result is written at once, so that
    the same command goes on where it was interrupted.
    """
    config = run.config
    output_dir = None if config.output_dir is None else Path(str(config.output_dir))
    checkpoints = find_checkpoints(Path(str(config.ckpt_path)), output_dir)
    results: dict[str, dict[str, float]] = {str(stored.path): {} for stored in checkpoints}
    jobs, missing = _jobs(checkpoints, config), []
    done: dict[tuple[Path, str], Job] = {}
    for job in jobs:
        known = job.known()
        if known is None or config.overwrite:
            missing.append(job)
        else:
            done[job.result] = job
            results[str(job.stored.path)].update(known["values"])
            _say_why_not(job, known["details"])
    run.summary |= {"task": config.task_name, "measures": len(jobs), "measured": 0}
    if len(missing) < len(jobs):
        log.info("%d of %d measures were taken before.", len(jobs) - len(missing), len(jobs))
    for folder in {job.stored.store.folder for job in missing}:
        check_writable(folder)
    measured: Measured | None = None
    bar = tqdm(missing, disable=not config.trainer.enable_progress_bar)
    run.when_interrupted = "What is measured is kept; the same command goes on with what is left."
    with logging_redirect_tqdm(), bar:
        for job in bar:
            bar.set_description(f"{job.stored.key}: {job.name}")
            if job.result in done:
                values = _copy(done[job.result], job)
            else:
                checkpoint = load_checkpoint(job.stored.path)
                needed = evaluation_config(config, checkpoint["config"])
                if measured is None or measured.config != needed:
                    measured = Measured(needed)
                measured.load(checkpoint, job.stored.path)
                reading = _take(job, measured)
                values = reading.values
                _say_why_not(job, reading.details)
                done[job.result] = job
                run.summary["measured"] += 1
            results[str(job.stored.path)].update(values)
    if config.update_wandb:
        for directory in dict.fromkeys(stored.run for stored in checkpoints):
            own = [stored for stored in checkpoints if stored.run == directory]
            update_wandb_run(directory, {s.path.stem: results[str(s.path)] for s in own})
    last = str(checkpoints[-1].path)
    values = {name: value for name, value in results[last].items() if "/" not in name}
    if values:
        log.info("\n%s\n%s", last, table({"value": values}, "measure"))
    folders = list(dict.fromkeys(str(stored.store.folder) for stored in checkpoints))
    shown = ", ".join(folders[:3]) + (f", ... ({len(folders)} folders)" if folders[3:] else "")
    log.info("Measures of %d checkpoints: %s", len(checkpoints), shown)


def _jobs(checkpoints: list[Stored], config: DictConfig) -> list[Job]:
    """All measures that are asked for; those of one checkpoint come together."""
    changes = [text for text in command_line() if text.startswith(("data", "model"))]
    measures, jobs = OmegaConf.to_container(config.measure, resolve=True), []
    num_statistics = config.statistics_samples
    for stored in checkpoints:
        checkpoint = load_checkpoint(stored.path)
        for name, entry in measures.items():
            if stored.named or entry["checkpoint"] in (None, stored.path.name):
                settings = {key: value for key, value in entry.items() if key != "checkpoint"}
                asked = {"measure": name, **settings, "statistics_samples": num_statistics}
                mark = fingerprint(asked | {"changes": changes}, checkpoint)
                jobs.append(Job(stored, position(checkpoint), name, settings, mark))
    if not jobs:
        asked = [f"measure.{n}.checkpoint={e.checkpoint}" for n, e in config.measure.items()]
        raise UserError(
            "there must be a checkpoint of the name that a measure asks for; got "
            f"{', '.join(asked)}. Name one that exists, or null for all."
        )
    return jobs


def _say_why_not(job: Job, details: Mapping[str, Any]) -> None:
    """Log why a measure has found nothing, where its details have a reason."""
    if reason := details.get("reason"):
        log.info("%s of %s: %s.", job.name, job.stored.key, reason.rstrip("."))


def _copy(source: Job, job: Job) -> dict[str, float]:
    """Keep the result of another checkpoint with the same weights for this one too."""
    entry = source.known()
    job.keep(entry)
    pictures = [stored.picture(job.name) for stored in (source.stored, job.stored)]
    for suffix in (".png", ".pdf"):
        drawn, copy = (picture.with_suffix(suffix) for picture in pictures)
        if drawn.is_file():
            write_bytes(copy, drawn.read_bytes())
    return entry["values"]


def _take(job: Job, measured: Measured) -> Reading:
    """Take one measure of the checkpoint that is loaded, and keep it."""
    stored, entry = job.stored, measured.config.measure[job.name]
    started = time.monotonic()
    batches = measured.batches(entry.split, entry.num_samples)
    statistics = measured.statistics(measured.config.statistics_samples)
    shown = measured.config.trainer.enable_progress_bar
    subject = Subject(
        measured.module,
        batches,
        statistics,
        score=measured.score,
        path=lambda: measured.path(stored, batches),
        progress=partial(tqdm, leave=False, disable=not shown),
    )
    with subject.reestimated():
        reading: Reading = instantiate(entry.probe, _convert_="all")(subject)
    statistics = "as stored" if statistics_of(measured.module) else "none"
    if subject.statistics:
        num_statistics = sum(len(inputs) for inputs in subject.statistics_inputs())
        statistics = f"re-estimated on {num_statistics} training samples"
    kept = {
        "fingerprint": job.fingerprint,
        "settings": job.settings,
        "num_samples": sum(len(inputs) for inputs in subject.inputs()),
        "statistics": statistics,
        "seconds": round(time.monotonic() - started, 3),
        "values": reading.values,
        "details": reading.details,
    }
    job.keep(kept)
    figure = draw(job.name, reading, f"epoch {job.at['epochs_trained']:g} of {stored.run.name}")
    if figure is not None:
        save_figure(figure, stored.picture(job.name))
    return reading
