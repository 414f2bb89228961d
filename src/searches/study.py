"""A study that several processes work on: its storage, its locks, and who runs which trial."""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import BaseFileLock, Timeout
from hydra.utils import instantiate
from numpy.random import SeedSequence
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import Trial, TrialState

from src.errors import UserError
from src.locks import file_lock
from src.runs.overrides import flatten

log = logging.getLogger(__name__)

DIRECTIONS = {"max": "maximize", "min": "minimize"}
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
SETTINGS = "settings"


class JournalLock(JournalFileOpenLock):
    """Optuna's lock, which also cuts off the half line that a killed writer may leave.

    Optuna reads past such a line, but appends to it: the journal is unreadable from then on.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), grace_period=5)  # seconds that a killed holder delays others
        self._path = path

    def acquire(self) -> bool:
        """Wait for the lock."""
        super().acquire()
        journal = self._path.read_bytes()
        if not journal.endswith(b"\n"):
            os.truncate(self._path, journal.rfind(b"\n") + 1)
        return True


@dataclass
class Claim:
    """A trial that this process runs, and no other one as long as it lives."""

    trial: Trial
    lock: BaseFileLock  # held until the trial ends
    reported: frozenset[int] = frozenset()  # epochs whose metric the study has from before

    @property
    def directory(self) -> str:
        """Where the trial's run is, below the directory of the study."""
        return f"trials/{self.trial.number:04d}"


class SharedStudy:
    """An Optuna study and its directory, worked on by any number of processes.

    A trial is claimed under a lock of the study, and has a lock of its own as long as it runs.
    A trial that the study holds for running but whose lock is free was left by a process that
    was killed or interrupted: it is claimed again, with the values it has. `settings` is the
    config group `search`; `space` holds the distribution of the values, by config key.
    """

    def __init__(self, settings: DictConfig, space: Mapping[str, BaseDistribution]) -> None:
        self.directory = Path(settings.dir).resolve()
        self._held_by_others: dict[int, BaseFileLock] = {}  # watched for signs of life
        self.lock = self._lock("study")
        self._settings = settings
        self._space = space
        where = settings.storage
        with self.lock:
            if where is not None and "://" in where:
                storage: BaseStorage = RDBStorage(where)
            else:
                path = Path(where or self.directory / "journal.log")
                path.parent.mkdir(parents=True, exist_ok=True)
                storage = JournalStorage(JournalFileBackend(str(path), JournalLock(path)))
            self.study = optuna.create_study(
                storage=storage,
                study_name=settings.name,
                direction=DIRECTIONS[settings.direction],
                pruner=instantiate(settings.pruner) or optuna.pruners.NopPruner(),
                load_if_exists=True,
            )

    def _lock(self, name: str) -> BaseFileLock:
        (self.directory / "locks").mkdir(parents=True, exist_ok=True)
        return file_lock(self.directory / "locks" / f"{name}.lock")

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Store what all trials have in common, or compare it with what the study has stored.

        Raises:
            UserError: when they differ, or the directory holds trials of another study.
        """
        with self.lock:
            if SETTINGS not in self.study.user_attrs:
                if any(self.directory.glob("trials/*")):
                    raise UserError(
                        "The directory of a new study must hold no trials; got "
                        f"{self.directory}, whose study is not in the storage. Use another "
                        "search.name, or the search.storage that it was started with."
                    )
                self.study.set_user_attr(SETTINGS, settings)
            before = dict(flatten(self.study.user_attrs[SETTINGS]))
        now, missing = dict(flatten(settings)), "nothing"
        differences = [
            f"{key}: {now.get(key, missing)} instead of {before.get(key, missing)}"
            for key in sorted({*before, *now})
            if before.get(key, missing) != now.get(key, missing)
        ]
        if differences:
            raise UserError(
                "A study continues with the settings it was started with, so that its trials "
                f"compare; got {'; '.join(differences)}. Leave the change out, or start another "
                f"study than {self.directory} with search.name=<another name>."
            )

    def num_finished(self) -> int:
        """Number of trials that are completed or pruned, over all processes and restarts."""
        return len(self.study.get_trials(deepcopy=False, states=FINISHED))

    def next_trial(self, num_trials: int, deadline: float = float("inf")) -> Claim | None:
        """Claim a trial, or None when the study has as many as it should, or time is over.

        While others run the last ones it waits: one may fail. `deadline` is in monotonic time.
        """
        waits = False
        while time.monotonic() < deadline:
            with self.lock:
                claim, others = self._claim(num_trials)
            if claim is not None or not others:
                return claim
            if not waits:
                log.info("Waiting for the last trials, under way in other processes: %d.", others)
                waits = True
            time.sleep(1)
        return None

    def _claim(self, num_trials: int) -> tuple[Claim | None, int]:
        """A claim if there is one to make, and how many trials others are running."""
        left, others = [], 0
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            lock = self._held_by_others.pop(trial.number, None) or self._lock(f"{trial.number:04d}")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                self._held_by_others[trial.number] = lock
                others += 1
            else:
                left.append((trial, lock))
        claim = None
        if self.num_finished() + others < num_trials:
            number = left[0][0].number if left else len(self.study.get_trials(deepcopy=False))
            seed = self._settings.seed
            if seed is not None:  # own to the trial, whichever process draws it and when
                seed = int(SeedSequence(seed, spawn_key=(number,)).generate_state(1)[0])
            self.study.sampler = instantiate(self._settings.sampler, seed=seed)
            if left:
                frozen, lock = left.pop(0)
                log.info("Trial %d was interrupted; it is continued.", number)
                reported = frozenset(frozen.intermediate_values)
                claim = Claim(Trial(self.study, frozen._trial_id), lock, reported)
            else:
                claim = Claim(self.study.ask(), self._lock(f"{number:04d}"))
                claim.lock.acquire(blocking=False)
            for key, distribution in self._space.items():
                claim.trial._suggest(key, distribution)  # as Study.ask does; keeps what it has
            claim.trial.set_user_attr("directory", claim.directory)
        for _, lock in left:
            lock.release()
        return claim, others

    def tell(self, claim: Claim, value: float | None, state: TrialState) -> None:
        """Record how a trial ended, and let go of it."""
        try:
            self.study.tell(claim.trial, value, state)
        except RuntimeError:
            # Samplers of a grid stop `Study.optimize` when all is tried, which is an error without
            # one; the trial is recorded all the same.
            if not self.study.get_trials(deepcopy=False)[claim.trial.number].state.is_finished():
                raise
        claim.lock.release()
