"""Hands jobs to Hydra's launchers so that one whose process is killed takes no other one along."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from src.files import LOCK
from src.locks import is_held
from src.sweeps import ray, slurm
from src.sweeps.records import KILLED, Job, LostJobError

log = logging.getLogger(__name__)

REASON_LENGTH = 300
# Launchers that take all jobs together, and give a result or an error for each.
SUBMIT = {"SlurmLauncher": slurm.submit, "RayLauncher": ray.submit}


def run_jobs(launcher: Launcher, jobs: Sequence[Job], at_once: int) -> list[JobReturn]:
    """Run jobs, some `at_once`, and return what each returned; None in the place of those lost.

    The launchers of joblib and submitit end the whole sweep when one job's process is killed. So
    they get one job at a time here, from `at_once` threads that wait for them.
    """

    def alone(job: Job) -> JobReturn:
        return _launch(launcher, [job])[0]

    kind = type(launcher).__name__
    if kind == "BasicLauncher":
        return [_run(job, alone) for job in jobs]
    if kind == "JoblibLauncher":
        idle: list[Executor] = []
        try:
            return _in_threads(jobs, at_once, lambda job: _in_a_worker(launcher, job, idle))
        finally:
            for pool in idle:
                pool.shutdown()
    if kind == "LocalLauncher":
        return _in_threads(jobs, at_once, alone)
    if kind in SUBMIT:
        results = SUBMIT[kind](launcher, [list(job.overrides) for job in jobs], jobs[0].number)
        return [
            settled(job, result) if isinstance(result, Exception) else result
            for job, result in zip(jobs, results)
        ]
    try:
        return _launch(launcher, jobs)
    except Exception as error:  # noqa: BLE001 -- of the launcher; those of jobs are recorded
        return [settled(job, error) for job in jobs]


def _launch(launcher: Launcher, jobs: Sequence[Job]) -> list[JobReturn]:
    return list(launcher.launch([list(job.overrides) for job in jobs], jobs[0].number))


def _in_a_worker(launcher: Launcher, job: Job, idle: list[Executor]) -> JobReturn:
    """Run a job as joblib's launcher does, but in a pool of one process, from `idle` or new.

    When one process of a pool is killed, loky kills the others.
    """
    from hydra_plugins.hydra_joblib_launcher._core import execute_job
    from joblib.externals.loky import ProcessPoolExecutor

    context, config, task = launcher.hydra_context, launcher.config, launcher.task_function
    arguments = job.number, list(job.overrides), context, config, task, Singleton.get_state()
    try:
        pool = idle.pop()
    except IndexError:
        pool = ProcessPoolExecutor(max_workers=1)
    try:
        result = pool.submit(execute_job, *arguments).result()
    except BaseException:
        pool.shutdown(wait=False)
        raise
    idle.append(pool)
    return result


def _in_threads(
    jobs: Sequence[Job], at_once: int, start: Callable[[Job], JobReturn]
) -> list[JobReturn]:
    with ThreadPoolExecutor(at_once) as threads:
        try:
            # A worker that was told to end ends one job: Ctrl-C is for this process too.
            return list(threads.map(lambda job: _run(job, start, BaseException), jobs))
        except KeyboardInterrupt:
            log.warning("Interrupted. No further job is started; those under way are waited for.")
            raise


def _run(
    job: Job, start: Callable[[Job], JobReturn], lost: type[BaseException] = Exception
) -> JobReturn:
    try:
        return start(job)
    except lost as error:  # of the launcher; those of jobs are recorded
        return settled(job, error)


def settled(job: Job, error: BaseException) -> JobReturn:
    """Record a job that its launcher has lost as failed, unless it said itself how it ended.

    Waits as long as a process works in the run's directory: it may be another one than that which
    the launcher watched.
    """
    while is_held(job.directory / LOCK):
        pass
    status = job.recorded()["status"]
    if status in ("running", "not started"):
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:REASON_LENGTH]
        if isinstance(error, LostJobError):
            reason = str(error) if status == "not started" else f"{KILLED} {error}"
        else:
            reason = KILLED if status == "running" else f"It could not be started. {reason}"
        job.record("failed", reason)
        log.error("Job %d failed: %s", job.number, reason)
    return nothing_returned()


def nothing_returned() -> JobReturn:
    """What stands for a job that did not run, or whose value is lost."""
    result = JobReturn(status=JobStatus.COMPLETED)
    result.return_value = None
    return result


def submitted_to_slurm(launcher: Launcher) -> set[str]:
    """Numbers of the SLURM jobs and arrays in the launcher's folder; none of other launchers."""
    if type(launcher).__name__ != "SlurmLauncher":
        return set()
    names = set()
    with suppress(FileNotFoundError):  # nothing was submitted yet
        folder = Path(launcher.params["submitit_folder"]).parent
        names = {path.name.partition("_")[0] for path in folder.iterdir() if path.is_dir()}
    return {name for name in names if name.isdecimal()}
