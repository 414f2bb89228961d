"""A study that several processes work on: its storage, its locks, and who runs which trial."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from numpy.random import SeedSequence
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from src.errors import UserError
from src.runs.overrides import flatten
from src.searches.space import Parameter

log = logging.getLogger(__name__)

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
POLL_SECONDS = 1.0
_SETTINGS = "settings"


class JournalLock:
    """Lock of a journal file that ends with its holder, however that ends.

    A holder that was killed while it wrote may leave half a line; the next one cuts it off.

    Args:
        path: of the journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._lock.acquire()
        self._cut_half_line()
        return True

    def release(self) -> None:
        """Let the next one have it."""
        self._lock.release()

    def _cut_half_line(self) -> None:
        with self._path.open("r+b") as file:
            size = file.seek(0, 2)
            if size == 0:
                return
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)


def open_storage(where: str | None, directory: Path) -> BaseStorage:
    """The storage that `search.storage` names: a journal file, or a database by its URL."""
    if where is not None and "://" in where:
        return RDBStorage(where)
    path = directory / "journal.log" if where is None else Path(where)
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalLock(path)))


def trial_directory(number: int) -> str:
    """Where a trial's run is, below the directory of the study."""
    return f"trials/{number:04d}"


@dataclass
class Claim:
    """A trial that this process runs, and no other one as long as it lives.

    Attributes:
        trial: of the study.
        lock: held until the trial is told.
        values: of the search space, by config key.
        reported: epochs whose metric the study has, from before the trial was interrupted.
    """

    trial: Trial
    lock: FileLock
    values: dict[str, Any]
    reported: frozenset[int] = frozenset()


class SharedStudy:
    """An Optuna study and its directory, worked on by any number of processes.

    A trial is claimed under a lock of the study, and has a lock of its own as long as it runs.
    A trial that the study holds for running but whose lock is free was left by a process that
    was killed or interrupted: it is claimed again, with the values it has.

    Args:
        directory: of the study, the same for all processes.
        storage: see `open_storage`.
        name: of the study in the storage.
        direction: `maximize` or `minimize`.
        space: what is tried.
        make_sampler: gives the sampler of a seed.
        seed: trial n is drawn with a seed made of this one and n, so that neither the number of
            processes nor an interruption makes two trials draw alike; None: drawn.
        pruner: of Optuna, or None.
    """

    def __init__(
        self,
        directory: Path,
        storage: str | None,
        name: str,
        direction: str,
        space: Sequence[Parameter],
        make_sampler: Callable[[int | None], BaseSampler],
        seed: int | None,
        pruner: optuna.pruners.BasePruner | None,
    ) -> None:
        self.directory = directory
        (directory / "locks").mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(directory / "locks" / "study.lock")
        self._space = space
        self._make_sampler = make_sampler
        self._seed = seed
        with self.lock:
            self.study = optuna.create_study(
                storage=open_storage(storage, directory),
                study_name=name,
                direction=direction,
                pruner=pruner or optuna.pruners.NopPruner(),
                load_if_exists=True,
            )

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Keep the settings of a new study; compare them with those of one that is continued.

        Args:
            settings: nested dicts of what all trials have in common.

        Raises:
            UserError: when they differ, or the directory holds trials of another study.
        """
        with self.lock:
            stored = self.study.user_attrs.get(_SETTINGS)
            if stored is None:
                self._check_no_trials()
                self.study.set_user_attr(_SETTINGS, settings)
                return
        missing = "nothing"
        before, now = dict(flatten(stored)), dict(flatten(settings))
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

    def _check_no_trials(self) -> None:
        if next(self.directory.glob("trials/*"), None) is not None:
            raise UserError(
                f"The directory of a new study must hold no trials; got {self.directory}, whose "
                "study is not in the storage. Use search.name=<another name>, or the "
                "search.storage that it was started with."
            )

    def count(self, *states: TrialState) -> int:
        """Number of trials in these states."""
        return len(self.study.get_trials(deepcopy=False, states=states))

    def next_trial(self, num_trials: int, deadline: float = float("inf")) -> Claim | None:
        """Claim a trial, or None when the study has as many as it should, or time is over.

        While the last ones are under way in other processes it waits: one of those may fail.

        Args:
            num_trials: how many are to be completed or pruned.
            deadline: on the clock of `time.monotonic`.
        """
        told = False
        while time.monotonic() < deadline:
            with self.lock:
                claim, others = self._claim(num_trials)
            if claim is not None or not others:
                return claim
            if not told:
                log.info("Waiting for the last trials, under way in other processes: %d.", others)
                told = True
            time.sleep(POLL_SECONDS)
        return None

    def _claim(self, num_trials: int) -> tuple[Claim | None, int]:
        """A claim if there is one to make, and how many trials others are running."""
        left, others = [], 0
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            lock = self._lock_of(trial.number)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                others += 1
            else:
                left.append((trial, lock))
        if self.count(*FINISHED) + others >= num_trials:
            chosen, unneeded = None, left
        else:
            chosen, unneeded = (left[0], left[1:]) if left else (self._new_trial(), [])
        for _, lock in unneeded:
            lock.release()
        return (self._claimed(*chosen) if chosen else None), others

    def _lock_of(self, number: int) -> FileLock:
        return FileLock(self.directory / "locks" / f"{number:04d}.lock")

    def _new_trial(self) -> tuple[Trial, FileLock]:
        self._use_sampler_of(len(self.study.get_trials(deepcopy=False)))
        trial = self.study.ask()
        lock = self._lock_of(trial.number)
        lock.acquire(blocking=False)
        return trial, lock

    def _use_sampler_of(self, number: int) -> None:
        seed = self._seed
        if seed is not None:
            seed = int(SeedSequence(seed, spawn_key=(number,)).generate_state(1)[0])
        self.study.sampler = self._make_sampler(seed)

    def _claimed(self, trial: Trial | FrozenTrial, lock: FileLock) -> Claim:
        reported: frozenset[int] = frozenset()
        if isinstance(trial, FrozenTrial):
            log.info("Trial %d was interrupted; it is continued.", trial.number)
            reported = frozenset(trial.intermediate_values)
            self._use_sampler_of(trial.number)
            trial = Trial(self.study, trial._trial_id)
        values = {parameter.key: parameter.draw(trial) for parameter in self._space}
        trial.set_user_attr("directory", trial_directory(trial.number))
        return Claim(trial, lock, values, reported)

    def tell(self, claim: Claim, value: float | None, state: TrialState) -> None:
        """Record how a trial ended, and let go of it."""
        self.study.tell(claim.trial, value, state)
        claim.lock.release()

    def release(self, claim: Claim) -> None:
        """Let go of a trial that is not over; it will be claimed again."""
        claim.lock.release()
