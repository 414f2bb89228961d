"""Continue a run in its directory, under the config it was started with."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import Timeout
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from src import files
from src.errors import UserError
from src.locks import file_lock, patience
from src.loggers.metrics_csv import drop_rows_from
from src.runs.checkpoints import load_checkpoint
from src.runs.overrides import (
    CIRCUMSTANCES,
    chooses_option,
    command_line,
    is_below,
    parse_overrides,
    relocate,
    set_value,
)
from src.runs.trust import checked

log = logging.getLogger(__name__)

# What may differ when a run is continued, with the keys below; `logger` may also be chosen anew.
CHANGEABLE = ("trainer.max_epochs", *CIRCUMSTANCES)


class RunTaken(UserError):
    """Another process works in the run directory."""


@contextmanager
def taken(directory: Path) -> Iterator[None]:
    """Work in a run directory as the only process; the system ends it when the process is killed.

    Raises:
        RunTaken: when another process does so.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = file_lock(directory / files.LOCK)
    try:
        lock.acquire(timeout=patience(lock))
    except Timeout:
        raise RunTaken(
            f"A run must be worked on by one process at a time; got {directory}, in which another "
            "one is at work. Wait until it ends, or end it."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else []
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"A file of a run must be YAML of plain values; {path} is not: {error}. Mend it, or "
            "start a new run without `resume`."
        ) from error


def resumed_config(composed: DictConfig) -> DictConfig:
    """The config under which the run in `composed.resume` continues.

    It is the stored one, as the last resume left it, with this command line's changes, and with
    the paths below the run directory moved to where that now is.

    Raises:
        UserError: when the command line asks for what would make it another run, or the stored
            config is not `checked`.
    """
    directory = Path(composed.resume).resolve()
    if Path(composed.paths.output_dir).resolve() != directory:
        raise UserError(
            "A resumed run is continued in its own directory; got an output directory "
            f"{composed.paths.output_dir} with resume={composed.resume}. Leave out hydra.run.dir."
        )
    latest = directory / files.RESUMED_CONFIG
    plain = _read_yaml(latest if latest.is_file() else directory / files.RUN_CONFIG)
    plain = relocate(plain, plain["paths"]["output_dir"], str(directory))
    stored = OmegaConf.create(checked(plain, composed.get("trust", False)))
    typed_before = _read_yaml(directory / files.OVERRIDES_FILE)
    before = {o.input_line for o in parse_overrides(typed_before)}
    for override in parse_overrides(command_line()):
        key, text = override.key_or_group, override.input_line
        sets_value = not (chooses_option(override) or override.is_add() or override.is_delete())
        value = override.value() if sets_value else None
        if text.startswith("logger="):
            logger = composed.logger
            logger = OmegaConf.to_container(logger, resolve=True) if logger else None
            set_value(stored, "logger", logger)
        elif sets_value and key == "paths.data_dir":
            moved = relocate(OmegaConf.to_container(stored), stored.paths.data_dir, value)
            stored = OmegaConf.create(moved)
        elif sets_value and is_below(key, CHANGEABLE):
            set_value(stored, key, value)
        elif not (
            key == "resume"
            or text in before
            or (sets_value and OmegaConf.select(stored, key) == value)
        ):
            raise UserError(
                f"A resumed run continues with the config it was started with; got `{text}`, which "
                "would make it another run. Leave it out, or start a new run without `resume` "
                "(with ckpt_path=<checkpoint> to start from this run's weights). What may be "
                f"changed: {', '.join(CHANGEABLE)}."
            )
    set_value(stored, "resume", str(directory))
    return stored


def continued_config(composed: DictConfig, directory: Path) -> DictConfig:
    """The config under which a job of a sweep continues the run in its directory.

    It is the composed one, which has the hash of the stored one, with the seed that the run drew.
    """
    composed.seed = checked(_read_yaml(directory / files.RUN_CONFIG)["seed"], False, "seed")
    config = OmegaConf.create(OmegaConf.to_container(composed, resolve=True))
    set_value(config, "resume", str(directory))
    return config


def record_resume(directory: Path, config: DictConfig, environment: dict[str, Any]) -> None:
    """Write the config of this continuation, and add it to the list of continuations.

    Warns when the run was started by another version of the code.
    """
    started = json.loads((directory / files.ENVIRONMENT_FILE).read_text(encoding="utf-8"))
    before, now = started["git"]["commit"], environment["git"]["commit"]
    if None not in (before, now) and before != now:
        text = "The run was started by commit %s of the code and is continued by %s: its result "
        log.warning(text + "may be that of neither.", before[:10], now[:10])
    entry = {"overrides": command_line(), "environment": environment}
    earlier = _read_yaml(directory / files.RESUMES_FILE)
    files.write_yaml(directory / files.RESUMED_CONFIG, config)
    files.write_yaml(directory / files.RESUMES_FILE, [*earlier, entry])


def finished_summary(directory: Path, config: DictConfig) -> dict[str, Any] | None:
    """The summary of a run that has done all that the config asks for; None of another one."""
    last, summary = directory / files.CHECKPOINTS / files.LAST, directory / files.SUMMARY_FILE
    if not (last.is_file() and summary.is_file()):
        return None
    reached = json.loads(summary.read_text(encoding="utf-8"))
    if reached.get("status") != "finished" or not _is_trained(load_checkpoint(last), config):
        return None
    log.info("Nothing to do: the run has finished, with the results in %s", summary)
    return reached


def _is_trained(checkpoint: dict[str, Any], config: DictConfig) -> bool:
    """Whether training has reached its end, or ended early for good."""
    kept = checkpoint.get("callbacks", {}).get("BestAndLastCheckpoint", {})
    steps = config.trainer.get("max_steps", -1)
    steps_done = 0 <= steps <= checkpoint["global_step"]
    epochs_done = checkpoint["epoch"] + 1 == config.trainer.max_epochs
    return epochs_done or steps_done or kept.get("stopped", False)


def rewind(directory: Path, config: DictConfig) -> Path | None:
    """Take a run back to its last checkpoint; None when it was killed before the first one.

    Metrics logged after the checkpoint are dropped: the run will log them again.

    Raises:
        UserError: when the run has trained for more epochs than the config now asks for.
    """
    path, wanted = directory / files.CHECKPOINTS / files.LAST, config.trainer.max_epochs
    step = 0
    if path.is_file():
        checkpoint = load_checkpoint(path)
        epochs, step = checkpoint["epoch"] + 1, checkpoint["global_step"]
        if wanted is not None and wanted < epochs:
            raise UserError(
                f"`trainer.max_epochs` must be at least the {epochs} epochs that the resumed run "
                f"has trained; got {wanted}. Use trainer.max_epochs={epochs} or more."
            )
        if _is_trained(checkpoint, config):
            log.info("Training ended after %d epochs; the best network is tested again.", epochs)
        else:
            of = "" if wanted is None else f" of {wanted}"
            log.info("Continuing after epoch %d%s.", epochs, of)
        planned = _read_yaml(directory / files.RUN_CONFIG)["trainer"]["max_epochs"]
        if wanted != planned:
            text = "The run was started for %s epochs: from here on schedules over the whole run "
            log.info(text + "are ones of %s epochs.", planned, wanted)
    else:
        log.info("The run has no checkpoint yet; it starts again.")
    if rank_zero_only.rank == 0:
        drop_rows_from(directory / files.METRICS_FILE, step)
    return path if path.is_file() else None
