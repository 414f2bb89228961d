"""Continue a run in its directory, under the config it was started with."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from src.errors import UserError
from src.files import (
    CHECKPOINTS,
    ENVIRONMENT_FILE,
    LAST,
    LOCK,
    METRICS_FILE,
    OVERRIDES_FILE,
    RESUMED_CONFIG,
    RESUMES_FILE,
    RUN_CONFIG,
    write_yaml,
)
from src.loggers.metrics_csv import drop_rows_from
from src.runs.checkpoints import load_checkpoint
from src.runs.overrides import (
    CIRCUMSTANCES,
    Override,
    command_line,
    parse_overrides,
    relocate,
    set_value,
)

log = logging.getLogger(__name__)


# The data loader's workers of a killed process hold its locks until they notice, within 5 seconds.
LOCK_SECONDS = 6.0

# What may differ when a run is continued: it changes how far, where or how loudly a run goes, not
# which one it is. Keys below these count too; `logger` may also be chosen anew as a group.
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
    lock = FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
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
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else []


def _is_changeable(override: Override) -> bool:
    if override.is_group or override.changes_structure:
        return override.text.startswith("logger=")
    return any(override.key == key or override.key.startswith(f"{key}.") for key in CHANGEABLE)


def _effective(texts: list[str]) -> list[Override]:
    """The last override of each key, which is the one that counts."""
    return list({override.key: override for override in parse_overrides(texts)}.values())


def _check_known(override: Override, stored: DictConfig, typed_before: set[str]) -> None:
    """Refuse what would make it another run; repeating what the run has is no change."""
    repeats = not override.is_group and OmegaConf.select(stored, override.key) == override.value
    if override.text in typed_before or (repeats and not override.changes_structure):
        return
    raise UserError(
        f"A resumed run continues with the config it was started with; got `{override.text}`, "
        "which would make it another run. Leave it out, or start a new run without `resume` "
        "(with ckpt_path=<checkpoint> to start from this run's weights). What may be changed: "
        f"{', '.join(CHANGEABLE)}."
    )


def _apply(override: Override, stored: DictConfig, composed: DictConfig) -> DictConfig:
    if override.is_group:
        logger = OmegaConf.to_container(composed.logger, resolve=True) if composed.logger else None
        set_value(stored, "logger", logger)
    elif override.key == "paths.data_dir":
        plain = OmegaConf.to_container(stored)
        return OmegaConf.create(relocate(plain, stored.paths.data_dir, override.value))
    else:
        set_value(stored, override.key, override.value)
    return stored


def resumed_config(composed: DictConfig) -> DictConfig:
    """The config under which the run in `composed.resume` continues.

    It is the stored one, as the last resume left it, with this command line's changes, and with
    paths below the run directory moved along where the directory was moved.

    Raises:
        UserError: when the command line asks for what would make it another run.
    """
    directory = Path(composed.resume).resolve()
    if Path(composed.paths.output_dir).resolve() != directory:
        raise UserError(
            "A resumed run is continued in its own directory; got an output directory "
            f"{composed.paths.output_dir} with resume={composed.resume}. Leave out hydra.run.dir."
        )
    latest = directory / RESUMED_CONFIG
    plain = _read_yaml(latest if latest.is_file() else directory / RUN_CONFIG)
    stored = OmegaConf.create(relocate(plain, plain["paths"]["output_dir"], str(directory)))
    typed_before = {o.text for o in _effective(_read_yaml(directory / OVERRIDES_FILE))}
    for override in _effective(command_line()):
        if override.key == "resume":
            continue
        if _is_changeable(override):
            stored = _apply(override, stored, composed)
        else:
            _check_known(override, stored, typed_before)
    set_value(stored, "resume", str(directory))
    return stored


def continued_config(composed: DictConfig, directory: Path) -> DictConfig:
    """The config under which a job of a sweep continues the run in its directory.

    It is the composed one, which has the hash of the stored one, with the seed that the run drew.
    """
    composed.seed = _read_yaml(directory / RUN_CONFIG)["seed"]
    config = OmegaConf.create(OmegaConf.to_container(composed, resolve=True))
    set_value(config, "resume", str(directory))
    return config


def warn_of_other_code(directory: Path, environment: dict[str, Any]) -> None:
    """Tell when a run is continued by another version of the code than it was started with."""
    path = directory / ENVIRONMENT_FILE
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))["git"]["commit"]
    now = environment["git"]["commit"]
    if None not in (before, now) and before != now:
        log.warning(
            "The run was started by commit %s of the code and is continued by %s: its result may "
            "be that of neither.",
            before[:10],
            now[:10],
        )


def record_resume(directory: Path, config: DictConfig, environment: dict[str, Any]) -> None:
    """Write the config of this continuation, and add it to the list of continuations."""
    earlier = _read_yaml(directory / RESUMES_FILE)
    entry = {"overrides": command_line(), "environment": environment}
    write_yaml(directory / RESUMED_CONFIG, config)
    write_yaml(directory / RESUMES_FILE, [*earlier, entry])


def rewind(directory: Path, config: DictConfig) -> Path | None:
    """Take a run back to its last checkpoint; None when it was killed before the first one.

    Metrics logged after the checkpoint are dropped: the run will log them again.

    Raises:
        UserError: when the run has trained for more epochs than the config now asks for.
    """
    path = directory / CHECKPOINTS / LAST
    if not path.is_file():
        log.info("The run has no checkpoint yet; it starts again.")
        _drop_rows(directory, 0)
        return None
    checkpoint = load_checkpoint(path)
    epochs = checkpoint["epoch"] + 1
    if config.trainer.max_epochs < epochs:
        raise UserError(
            f"`trainer.max_epochs` must be at least the {epochs} epochs that the resumed run has "
            f"trained; got {config.trainer.max_epochs}. Use trainer.max_epochs={epochs} or more."
        )
    _tell_progress(epochs, _read_yaml(directory / RUN_CONFIG)["trainer"]["max_epochs"], config)
    _drop_rows(directory, checkpoint["global_step"])
    return path


@rank_zero_only
def _drop_rows(directory: Path, step: int) -> None:
    drop_rows_from(directory / METRICS_FILE, step)


def _tell_progress(epochs: int, planned: int, config: DictConfig) -> None:
    wanted = config.trainer.max_epochs
    if epochs == wanted:
        log.info("All %d epochs are trained already; the best network is tested again.", epochs)
    else:
        log.info("Continuing after epoch %d of %d.", epochs, wanted)
    if wanted != planned:
        log.info(
            "The run was started for %d epochs: from here on schedules over the whole run are "
            "ones of %d epochs.",
            planned,
            wanted,
        )
