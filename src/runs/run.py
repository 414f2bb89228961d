"""One run from start to end: its directory, its loggers, its errors and its summary."""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf

from src import files
from src.errors import unwrapped, user_error
from src.runs.building import build_group, network_size
from src.runs.checkpoints import load_checkpoint
from src.runs.config_checks import check_config
from src.runs.console import apply_extras, quiet_third_party, size_text
from src.runs.entry_points import INTERRUPTED
from src.runs.environment import describe_environment
from src.runs.overrides import command_line, evaluation_config, in_sweep, shell_command
from src.runs.processes import check_processes, keep_freed_memory, quiet_other_processes
from src.runs.resolvers import is_run_directory
from src.runs.resume import (
    continued_config,
    finished_summary,
    record_resume,
    resumed_config,
    rewind,
    taken,
)
from src.seeding import seed_run

log = logging.getLogger(__name__)

SIGTERM_STATUS = 128 + signal.SIGTERM  # as in shells


@dataclass
class Run:
    """A run under way; `loggers` are closed and `summary` is written when it ends."""

    config: DictConfig  # resolved
    directory: Path
    checkpoint: Any = None  # path where a resumed run continues; content of one to evaluate
    loggers: list[Logger] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    seconds_before: float = 0.0  # of earlier starts, up to the checkpoint that is continued
    is_complete: bool = False  # an earlier start did it all, and wrote `summary`
    has_begun: bool = True  # whether it may hold anything worth keeping
    when_interrupted: str = "The same command starts it again."

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return round(self.seconds_before + time.monotonic() - self.started, 3)

    def start_logging(
        self, trainer: Trainer, model: LightningModule, datamodule: LightningDataModule
    ) -> None:
        """Log the network's size; build the loggers, after all that may fail, with the config."""
        size = network_size(model, datamodule)
        self.summary |= size
        log.info("The network has %s.", size_text(size))
        freedom = {
            name: layer.degrees_of_freedom()  # dimensions that its kernels reach, and plain ones
            for name, layer in model.named_modules()
            if hasattr(layer, "degrees_of_freedom")
        }
        if freedom:
            self.summary["degrees_of_freedom"] = freedom
            reached, plain = (sum(counts) for counts in zip(*freedom.values()))
            log.info("Its kernels can reach %s of %s dimensions.", f"{reached:,}", f"{plain:,}")
        if hasattr(model, "check_optimizer"):
            model.check_optimizer()
        if trainer.fast_dev_run:
            return
        self.has_begun = True
        self.loggers.extend(build_group(self.config, "logger"))
        parameters = OmegaConf.to_container(self.config) | size
        for logger in self.loggers:
            logger.log_hyperparams(parameters)
        self.loggers[:] = [each for each in self.loggers if not getattr(each, "lost", False)]
        trainer.loggers = self.loggers

    def close(self, status: str) -> None:
        """Close every logger, also when one of them fails to, and write `summary.json`."""
        if self.is_complete:
            return
        outcome = "success" if status in ("finished", "pruned") else "failed"
        for logger in self.loggers:
            for method, arguments in (("finalize", [outcome]), ("finish", [])):
                try:
                    getattr(logger, method, lambda: None)(*arguments)
                except Exception:
                    log.exception("%s could not be closed.", type(logger).__name__)
        self.summary = {"status": status, **self.summary, "wall_time_s": self.seconds}
        if rank_zero_only.rank == 0:
            files.write_json(self.directory / files.SUMMARY_FILE, self.summary)


def prepare_training(composed: DictConfig) -> Run:
    """Seed a new run, or take a resumed one back to its last checkpoint; write its config.

    A job of a sweep whose directory holds a run continues it. A run that has finished is left as
    it is.
    """
    directory = Path(composed.paths.output_dir)
    if composed.resume is not None:
        config = resumed_config(composed)
    elif in_sweep() and is_run_directory(directory):
        config = continued_config(composed, directory)
    else:
        run = prepare_new_run(composed)
        run.has_begun = False
        return run
    if (reached := finished_summary(directory, config)) is not None:
        return Run(config, directory, summary=reached, is_complete=True)
    seed_run(config.seed)
    checkpoint = rewind(directory, config)
    if rank_zero_only.rank == 0:
        environment = describe_environment(composed.paths.root_dir, config.seed)
        record_resume(directory, config, environment)
    return Run(config, directory, checkpoint)


def prepare_evaluation(composed: DictConfig) -> Run:
    """Read the checkpoint and rebuild its config; write it."""
    checkpoint = load_checkpoint(composed.ckpt_path)
    run = prepare_new_run(evaluation_config(composed, checkpoint["config"]))
    run.checkpoint = checkpoint
    return run


def prepare_new_run(composed: DictConfig) -> Run:
    """Seed a run that continues no other, and write its config."""
    composed.seed = seed_run(composed.seed)
    config = OmegaConf.create(OmegaConf.to_container(composed, resolve=True))
    directory = Path(config.paths.output_dir)
    if rank_zero_only.rank == 0:
        environment = describe_environment(config.paths.root_dir, config.seed)
        files.write_json(directory / files.ENVIRONMENT_FILE, environment)
        files.write_yaml(directory / files.OVERRIDES_FILE, command_line())
        files.write_yaml(directory / files.RUN_CONFIG, config)
    return Run(config, directory)


@contextmanager
def open_run(composed: DictConfig, prepare: Callable[[DictConfig], Run]) -> Iterator[Run]:
    """A run that closes its loggers and writes `summary.json` however it ends.

    No other process continues the same run meanwhile. `prepare` starts it: `prepare_training`,
    `prepare_new_run`, `prepare_evaluation`, or the like.

    Raises:
        UserError: for an error that its reader can mend; the traceback goes to the log file.
    """
    quiet_third_party()
    quiet_other_processes()
    keep_freed_memory()
    resumed = composed.get("resume")
    first = rank_zero_only.rank == 0
    resumes = first and resumed is not None and is_run_directory(resumed)
    mine = taken(Path(str(resumed))) if resumes else nullcontext()
    run: Run | None = None

    def has_begun() -> bool:
        return run is not None and run.has_begun

    with reported_errors(composed), mine, leaving_nothing(composed, has_begun):
        check_config(composed)
        check_processes(composed)
        run = prepare(composed)
        apply_extras(run.config)
        status = "interrupted"
        try:
            yield run
            status = run.summary.get("status", "finished")
        except Exception as error:
            status = "failed"
            message = user_error(error, run.config)
            run.summary["error"] = str(message or f"{type(error).__name__}: {error}")
            raise
        except SIGTERMException:
            raise SystemExit(SIGTERM_STATUS) from None  # Lightning would exit with 0
        except (KeyboardInterrupt, SystemExit) as end:
            if KeyboardInterrupt in (type(end), type(end.__context__)):  # Lightning exits with 1
                raise SystemExit(INTERRUPTED) from None
            raise
        finally:
            if status == "interrupted":
                going_on = f"Continue with: {shell_command('train', resume=run.directory)}"
                resumable = (run.directory / files.CHECKPOINTS).is_dir()
                log.warning("Interrupted. %s", going_on if resumable else run.when_interrupted)
            run.close(status)


@contextmanager
def leaving_nothing(
    config: DictConfig, has_begun: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Within it, until work has begun, let an error that a user can mend leave no run directory."""
    try:
        yield
    except Exception as error:
        alone = HydraConfig.initialized() and not in_sweep() and not has_begun()
        if alone and user_error(error, config) is not None:
            hydra, top = HydraConfig.get(), Path(config.paths.log_dir)
            folder = Path(hydra.runtime.output_dir)
            names = {f"{hydra.job.name}.log", *files.WITHOUT_RESULTS}
            if folder.is_dir() and {path.name for path in folder.iterdir()} <= names:
                for path in folder.iterdir():
                    path.unlink()
                with suppress(OSError):  # until one is not empty
                    for place in (folder, *folder.parents):
                        if place == folder or top in place.parents:
                            place.rmdir()
        raise


@contextmanager
def reported_errors(config: DictConfig | None = None) -> Iterator[None]:
    """Turn an error that a user can mend into its message; put the traceback into the log."""
    try:
        yield
    except Exception as error:
        logging.getLogger("file_only").exception("The run failed.")
        message = user_error(error, config)
        if in_sweep():
            log.error("This job failed: %s", message or repr(error))
        if message is None or message is error:
            raise
        raise message from unwrapped(error)
