"""A search for hyperparameters: checks of its settings, and the loop over its trials."""

import logging
import time
from collections.abc import Callable
from math import isfinite
from typing import Any

import optuna
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobStatus, configure_log, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from src.callbacks.study import ReportToStudy
from src.checks import wrong
from src.errors import UserError, user_error
from src.runs.overrides import (
    command_line,
    flatten,
    is_below,
    override_text,
    parse_overrides,
)
from src.searches.report import best_trial, report, write_tables
from src.searches.space import read_space
from src.searches.study import DIRECTIONS, Claim, SharedStudy
from src.sweeps.devices import release_memory, spread
from src.sweeps.names import NOT_OF_THE_JOB

log = logging.getLogger(__name__)

# What a search, and a file of hparams_search, may set otherwise than src/train.py.
OWN_KEYS = ("search", "hparams_search", "task_name", "optimized_metric")
FAILURES_IN_A_ROW = 3
INTERRUPTED = 130  # exit status of shells after Ctrl-C

TrainTrial = Callable[[DictConfig, list[ReportToStudy]], float | None]


def check_search(config: DictConfig) -> None:
    """Raise a UserError that names every setting whose value breaks its rule."""
    search, devices, timeout = config.search, config.trainer.devices, config.search.timeout
    count = type(search.num_trials) is int and search.num_trials >= 0
    seconds = timeout is None or (type(timeout) in (int, float) and timeout > 0)
    validated = not str(search.metric).startswith("test/")
    one_device = len(devices) == 1 if OmegaConf.is_list(devices) else str(devices) == "1"
    rules = {
        "search.num_trials": (count, "an integer of at least 0", "search.num_trials=20"),
        "search.timeout": (seconds, "seconds above 0, or null", "search.timeout=3600"),
        "search.direction": (search.direction in DIRECTIONS, "max or min", "search.direction=max"),
        "search.metric": (
            validated,
            "a metric of the validation data",
            "search.metric=val/acc_reestimated",
        ),
        "resume": (config.resume is None, "null: a search continues without it", "resume=null"),
        "trainer.devices": (one_device, "one device per trial", "trainer.devices=1"),
    }
    broken = [
        wrong(key, rule, OmegaConf.select(config, key), fix)
        for key, (holds, rule, fix) in rules.items()
        if not holds
    ]
    if broken:
        raise UserError("\n".join(broken))


def check_file(searched: dict[str, Any], training: dict[str, Any]) -> None:
    """Refuse a file of hparams_search that changes what is trained besides the searched values.

    The configs are nested dicts: of the search, and of `src/train.py` without that file.
    """
    with_file, without = dict(flatten(searched)), dict(flatten(training))
    changed = [
        key
        for key in sorted({*with_file, *without})
        if not is_below(key, OWN_KEYS) and with_file.get(key) != without.get(key)
    ]
    if changed:
        raise UserError(
            "A file of hparams_search must set only `search`, `hydra` and `optimized_metric`, so "
            "that the overrides of a trial are all that it takes to train it again; got "
            f"{', '.join(changed)}. Put these into an experiment, or on the command line."
        )


def _compose_training(overrides: list[str]) -> DictConfig:
    """The config of `src/train.py` with these overrides, and Hydra's own below `hydra`."""
    loader = GlobalHydra.instance().config_loader()
    return loader.load_configuration("train", overrides, RunMode.RUN)


class Search:
    """A study, as the config of `src/search.py` describes it, and this process's part in it.

    Raises:
        UserError: when a setting breaks a rule, or differs from those the study has.
    """

    def __init__(self, config: DictConfig) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        check_search(config)
        # Overrides of the command line that all trials have in common:
        typed = parse_overrides(command_line())
        self._overrides = [o.input_line for o in typed if not is_below(o.key_or_group, OWN_KEYS)]
        composed = _compose_training(self._overrides)
        groups = {name for name in composed.hydra.runtime.choices if not name.startswith("hydra")}
        training, plain = OmegaConf.to_container(composed), OmegaConf.to_container(config)
        del training["hydra"]
        check_file(plain, training)
        entries = plain["search"]["space"]
        self.metric: str = config.search.metric
        self._settings = config.search
        self._failures = 0
        self._shared = SharedStudy(self._settings, read_space(entries, training, groups))
        self.directory = self._shared.directory
        common = {k: v for k, v in flatten(training) if not is_below(k, NOT_OF_THE_JOB)}
        own = {"space": entries, "metric": self.metric, "direction": self._settings.direction}
        if self._settings.storage is not None:
            own["dir"] = str(self.directory)  # where all processes look for locks
        self._shared.check_settings({**common, "search": own})

    def run(self, train_trial: TrainTrial) -> None:
        """Run trials until the study has as many as it should; report, however this ends.

        Raises:
            UserError: when three trials of this process in a row have failed.
        """
        timeout = self._settings.timeout
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        try:
            while claim := self._shared.next_trial(self._settings.num_trials, deadline):
                self._run_trial(claim, train_trial)
                self._write_tables()
        except (KeyboardInterrupt, SystemExit) as stop:
            log.warning("Interrupted. Give the command again to continue the search.")
            raise SystemExit(getattr(stop, "code", INTERRUPTED)) from None
        finally:
            self._write_tables()
            report(self._shared.study, self.directory, self.metric)

    def _write_tables(self) -> None:
        with self._shared.lock:  # so that the files are of the latest state
            write_tables(self._shared.study, self.directory, self.metric, self._overrides)

    def _run_trial(self, claim: Claim, train_trial: TrainTrial) -> None:
        number, values = claim.trial.number, claim.trial.params
        log.info("Trial %d: %s", number, ", ".join(f"{k}={v}" for k, v in values.items()))
        try:
            value = self._train(claim, train_trial)
        except Exception as error:  # recorded; the search goes on
            message = str(user_error(error) or f"{type(error).__name__}: {error}")
            claim.trial.set_user_attr("error", message)
            self._shared.tell(claim, None, TrialState.FAIL)
            log.error("Trial %d failed: %s", number, message)
            self._failures += 1
            if self._failures == FAILURES_IN_A_ROW:
                raise UserError(
                    f"A search must have trials that succeed; got {FAILURES_IN_A_ROW} failures in "
                    f"a row, the last one: {message} Mend the cause (the log is in "
                    f"{self.directory / claim.directory}) and run the command again."
                ) from error
            return
        except BaseException:
            claim.lock.release()  # not over: it will be claimed again
            raise
        self._failures = 0
        if value is None or not isfinite(value):
            self._shared.tell(claim, None, TrialState.PRUNED)
            outcome = "pruned"
        else:
            self._shared.tell(claim, value, TrialState.COMPLETE)
            outcome = f"{self.metric} {value:.6g}"
        best = best_trial(self._shared.study)
        so_far = f"; best so far: {best.value:.6g} of trial {best.number}" if best else ""
        done, wanted = self._shared.num_finished(), self._settings.num_trials
        log.info("Trial %d: %s (%d of %d%s)", number, outcome, done, wanted, so_far)

    def _train(self, claim: Claim, train_trial: TrainTrial) -> float | None:
        """Train as a job of a multirun whose directory is that of the study."""
        reporter = ReportToStudy(claim.trial, self.metric, claim.reported)
        values = {
            **claim.trial.params,
            "optimized_metric": self.metric,
            "hydra.sweep.dir": str(self.directory),
            "hydra.sweep.subdir": claim.directory,
            "hydra.mode": "MULTIRUN",
            "hydra.job.name": "train",
        }
        overrides = [override_text(key, value) for key, value in values.items()]
        config = _compose_training([*self._overrides, *overrides])

        def task(config: DictConfig) -> float | None:
            spread(config, claim.trial.number)
            return train_trial(config, [reporter])

        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
        logging_of_search = HydraConfig.get()
        try:
            done = run_job(task, config, "hydra.sweep.dir", "hydra.sweep.subdir", context)
        finally:
            release_memory()
            configure_log(logging_of_search.job_logging, logging_of_search.verbose)
        if done.status is JobStatus.FAILED:
            raise done._return_value  # `return_value` would also write to stderr
        return done.return_value
