"""A search for hyperparameters: its settings, and the loop over its trials."""

import logging
import time
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import optuna
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from src.callbacks.study import ReportToStudy
from src.errors import UserError, user_error
from src.plots.style import save_figure
from src.runs.overrides import flatten
from src.searches.checks import DIRECTIONS, check_file, check_search
from src.searches.report import best_trials, log_best, plot_history, write_tables
from src.searches.space import override_text, read_space
from src.searches.study import FINISHED, Claim, SharedStudy, trial_directory
from src.searches.trials import compose_training, may_differ, run_trial, shared_overrides

log = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 3
INTERRUPTED = 130  # as shells tell Ctrl-C

TrainTrial = Callable[[DictConfig, list[ReportToStudy]], float | None]


def _plain_training(overrides: list[str]) -> tuple[dict[str, Any], set[str]]:
    """The config that trials have in common, as nested dicts, and the names of its groups."""
    config = compose_training(overrides)
    groups = {name for name in config.hydra.runtime.choices if not name.startswith("hydra")}
    plain = OmegaConf.to_container(config)
    del plain["hydra"]
    return plain, groups


class Search:
    """A study, as the config describes it, and this process's part in it.

    Args:
        config: of `src/search.py`.

    Raises:
        UserError: when a setting breaks a rule, or differs from those the study has.
    """

    def __init__(self, config: DictConfig) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        check_search(config)
        settings = config.search
        training, groups = _plain_training(shared_overrides())
        plain = OmegaConf.to_container(config)
        check_file(plain, training)
        entries = plain["search"]["space"]
        space = read_space(entries, training, groups)
        self.directory = Path(settings.dir).resolve()
        self.metric: str = settings.metric
        self._settings = settings
        self._failures = 0
        self._shared = SharedStudy(
            self.directory,
            settings.storage,
            settings.name,
            DIRECTIONS[settings.direction],
            space,
            lambda seed: instantiate(settings.sampler, seed=seed),
            settings.seed,
            instantiate(settings.pruner),
        )
        common = {key: value for key, value in flatten(training) if not may_differ(key)}
        own = {"space": entries, "metric": self.metric, "direction": settings.direction}
        if settings.storage is not None:
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
                self._run(claim, train_trial)
        except (KeyboardInterrupt, SystemExit) as stop:
            log.warning("Interrupted. Give the command again to continue the search.")
            raise SystemExit(getattr(stop, "code", INTERRUPTED)) from None
        finally:
            self.report()

    def report(self) -> None:
        """Log the best trials; write the tables and the picture."""
        self._write()
        figure = plot_history(self._shared.study, self.metric)
        save_figure(figure, self.directory / "history.png")
        log_best(self._shared.study, self.directory, self.metric)

    def _write(self) -> None:
        with self._shared.lock:  # so that the files are of the latest state
            write_tables(self._shared.study, self.directory, self.metric, shared_overrides())

    def _run(self, claim: Claim, train_trial: TrainTrial) -> None:
        number = claim.trial.number
        told = ", ".join(f"{key}={value}" for key, value in claim.values.items())
        log.info("Trial %d: %s", number, told)
        reporter = ReportToStudy(claim.trial, self.metric, claim.reported)
        directory = trial_directory(number)
        values = {**claim.values, "optimized_metric": self.metric}
        overrides = [override_text(key, value) for key, value in values.items()]
        try:
            value = run_trial(
                lambda config: train_trial(config, [reporter]),
                self.directory,
                directory,
                [*shared_overrides(), *overrides],
            )
        except Exception as error:  # noqa: BLE001 -- recorded; the search goes on
            self._tell_failure(claim, str(user_error(error) or f"{type(error).__name__}: {error}"))
        except BaseException:
            self._shared.release(claim)
            raise
        else:
            self._failures = 0
            self._tell(claim, value)
        self._write()

    def _tell(self, claim: Claim, value: float | None) -> None:
        number = claim.trial.number
        if value is None or not isfinite(value):
            self._shared.tell(claim, None, TrialState.PRUNED)
            outcome = "pruned"
        else:
            self._shared.tell(claim, value, TrialState.COMPLETE)
            outcome = f"{self.metric} {value:.6g}"
        best = next(iter(best_trials(self._shared.study)), None)
        so_far = f"; best so far: {best.value:.6g} of trial {best.number}" if best else ""
        done = self._shared.count(*FINISHED)
        wanted = self._settings.num_trials
        log.info("Trial %d: %s (%d of %d%s)", number, outcome, done, wanted, so_far)

    def _tell_failure(self, claim: Claim, message: str) -> None:
        claim.trial.set_user_attr("error", message)
        self._shared.tell(claim, None, TrialState.FAIL)
        log.error("Trial %d failed: %s", claim.trial.number, message)
        self._failures += 1
        if self._failures == FAILURES_IN_A_ROW:
            raise UserError(
                f"A search must have trials that succeed; got {FAILURES_IN_A_ROW} failures in a "
                f"row, the last one: {message} Mend the cause (the log is in "
                f"{self.directory / trial_directory(claim.trial.number)}) and run the command "
                "again."
            )
