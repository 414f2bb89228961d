"""One run from start to end: its directory, its loggers, its errors and its summary."""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf

from src.errors import user_error
from src.files import (
    CHECKPOINTS,
    ENVIRONMENT_FILE,
    OVERRIDES_FILE,
    RUN_CONFIG,
    SUMMARY_FILE,
    write_json,
    write_yaml,
)
from src.runs.building import build_loggers, count_parameters, degrees_of_freedom
from src.runs.checkpoints import load_checkpoint
from src.runs.config_checks import check_config
from src.runs.console import apply_extras, quiet_third_party
from src.runs.environment import describe_environment
from src.runs.evaluation import evaluation_config
from src.runs.overrides import command_line, in_sweep
from src.runs.processes import check_processes, quiet_other_processes
from src.runs.resolvers import is_run_directory
from src.runs.resume import (
    continued_config,
    record_resume,
    resumed_config,
    rewind,
    taken,
    warn_of_other_code,
)
from src.seeding import seed_run

log = logging.getLogger(__name__)

SIGTERM_STATUS = 128 + signal.SIGTERM  # as shells tell it


@dataclass
class Run:
    """A run under way.

    Attributes:
        config: resolved.
        directory: where everything about it is written.
        checkpoint: for a run that is resumed, where it continues; for an evaluation, what is
            evaluated, read.
        loggers: those that will be closed when the run ends, however it ends.
        summary: will be written to `summary.json`.
        started: on the clock of `time.monotonic`.
    """

    config: DictConfig
    directory: Path
    checkpoint: Any = None
    loggers: list[Logger] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Wall time so far, of this start of the run."""
        return round(time.monotonic() - self.started, 3)

    def start_logging(self, trainer: Trainer, model: LightningModule) -> None:
        """Build the loggers, after everything that may fail, and tell them the config."""
        self.summary["num_parameters"] = count_parameters(model)
        log.info("The network has %s parameters.", f"{self.summary['num_parameters']:,}")
        if freedom := degrees_of_freedom(model):
            self.summary["degrees_of_freedom"] = freedom
            reached, plain = (sum(counts) for counts in zip(*freedom.values()))
            log.info("Its kernels can reach %s of %s dimensions.", f"{reached:,}", f"{plain:,}")
        if trainer.fast_dev_run:
            return
        self.loggers.extend(build_loggers(self.config))
        trainer.loggers = self.loggers
        hparams = {
            **OmegaConf.to_container(self.config),
            "num_parameters": self.summary["num_parameters"],
        }
        for logger in self.loggers:
            logger.log_hyperparams(hparams)


def prepare_training(composed: DictConfig) -> Run:
    """Seed a new run, or take a resumed one back to its last checkpoint; write its config.

    A job of a sweep whose directory holds a run continues it.
    """
    directory = Path(composed.paths.output_dir)
    if composed.resume is not None:
        return _prepare_resumed(composed, resumed_config(composed))
    if in_sweep() and is_run_directory(directory):
        return _prepare_resumed(composed, continued_config(composed, directory))
    return prepare_new_run(composed)


def _prepare_resumed(composed: DictConfig, config: DictConfig) -> Run:
    directory = Path(composed.paths.output_dir)
    seed_run(config.seed)
    checkpoint = rewind(directory, config)
    environment = describe_environment(composed.paths.root_dir, config.seed)
    warn_of_other_code(directory, environment)
    if rank_zero_only.rank == 0:
        record_resume(directory, config, environment)
    return Run(config, directory, checkpoint)


def prepare_new_run(composed: DictConfig) -> Run:
    """Seed a run that continues no other, and write its config."""
    composed.seed = seed_run(composed.seed)
    run = Run(_resolved(composed), Path(composed.paths.output_dir))
    _write_start(run)
    return run


def prepare_evaluation(composed: DictConfig) -> Run:
    """Read the checkpoint and rebuild its config; write it."""
    checkpoint = load_checkpoint(composed.ckpt_path)
    config = evaluation_config(composed, checkpoint["config"])
    seed_run(config.seed)
    run = Run(config, Path(composed.paths.output_dir), checkpoint)
    _write_start(run)
    return run


@contextmanager
def open_run(composed: DictConfig, prepare: Callable[[DictConfig], Run]) -> Iterator[Run]:
    """A run that closes its loggers and writes `summary.json` however it ends.

    Args:
        composed: the config that Hydra composed.
        prepare: `prepare_training`, `prepare_new_run` or `prepare_evaluation`.

    Raises:
        UserError: for an error that its reader can mend; the traceback goes to the log file.
    """
    quiet_third_party()
    quiet_other_processes()
    with errors_told(), _alone(composed):
        check_config(composed)
        check_processes(composed)
        run = prepare(composed)
        apply_extras(run.config)
        status = "interrupted"
        try:
            yield run
            status = "finished"
        except Exception as error:
            status = "failed"
            run.summary["error"] = str(user_error(error) or f"{type(error).__name__}: {error}")
            raise
        except SIGTERMException:
            raise SystemExit(SIGTERM_STATUS) from None  # Lightning would exit with 0
        finally:
            if status == "interrupted" and (run.directory / CHECKPOINTS).is_dir():
                log.warning("Interrupted. Continue with: src/train.py resume=%s", run.directory)
            _close_loggers(run.loggers, status)
            run.summary = {"status": status, **run.summary, "wall_time_s": run.seconds}
            _write_summary(run)


def _resolved(config: DictConfig) -> DictConfig:
    return OmegaConf.create(OmegaConf.to_container(config, resolve=True))


@rank_zero_only
def _write_start(run: Run) -> None:
    environment = describe_environment(run.config.paths.root_dir, run.config.seed)
    write_json(run.directory / ENVIRONMENT_FILE, environment)
    write_yaml(run.directory / OVERRIDES_FILE, command_line())
    write_yaml(run.directory / RUN_CONFIG, run.config)


@rank_zero_only
def _write_summary(run: Run) -> None:
    write_json(run.directory / SUMMARY_FILE, run.summary)


def _close_loggers(loggers: list[Logger], status: str) -> None:
    """Close every logger, also when one of them fails to."""
    outcome = "success" if status == "finished" else "failed"
    for logger in loggers:
        for close in (partial(logger.finalize, outcome), getattr(logger, "finish", None)):
            try:
                if close is not None:
                    close()
            except Exception:
                log.exception("%s could not be closed.", type(logger).__name__)


@contextmanager
def _alone(composed: DictConfig) -> Iterator[None]:
    """Let no other process continue the same run; a new one has a directory of its own."""
    resumed = composed.get("resume")
    if isinstance(resumed, str) and is_run_directory(resumed) and rank_zero_only.rank == 0:
        with taken(Path(resumed)):
            yield
    else:
        yield


@contextmanager
def errors_told() -> Iterator[None]:
    """Turn an error that a user can mend into its message; put the traceback into the log."""
    try:
        yield
    except Exception as error:
        logging.getLogger("file_only").exception("The run failed.")
        told = user_error(error)
        if in_sweep():
            log.error("This job failed: %s", told or repr(error))
        if told is None or told is error:
            raise
        raise told from error
