import threading
import time

import pytest

from src.files import LOCK
from src.locks import file_lock
from src.sweeps import launching
from src.sweeps.launching import run_jobs, submitted_to_slurm
from src.sweeps.records import KILLED, Job


class Launcher:
    """A launcher whose jobs end as their overrides say."""

    def __init__(self, jobs, at_once=1):
        self.jobs, self.batches, self.under_way, self.most = jobs, [], 0, 0
        self.first_ones = threading.Barrier(at_once)

    def launch(self, batch, first):
        self.batches.append(len(batch))
        self.under_way += 1
        if first < self.first_ones.parties:
            self.first_ones.wait(60)
        self.most = max(self.most, self.under_way)
        self.under_way -= 1
        for number, (how,) in enumerate(batch, first):
            if how != "unstarted":
                self.jobs[number].record("running")
            if how == "told to end":
                self.jobs[number].record("interrupted")
                raise SystemExit(1)
            if how != "finished":
                raise RuntimeError("its process is\ngone")
            self.jobs[number].record("finished")
        return [f"result {number}" for number in range(first, first + len(batch))]


ENDS = ("finished", "killed", "finished", "unstarted", "finished")


@pytest.fixture
def jobs(tmp_path):
    found = [Job(n, tmp_path / f"job-{n}", tmp_path / "now", (how,)) for n, how in enumerate(ENDS)]
    for job in found:
        job.directory.mkdir()
    return found


@pytest.mark.parametrize(
    ("kind", "batches", "most"), [("Local", [1] * 5, 3), ("Basic", [1] * 5, 1), ("Own", [5], 1)]
)
def test_a_job_that_its_launcher_loses_is_recorded_and_the_others_run(jobs, kind, batches, most):
    launcher = type(f"{kind}Launcher", (Launcher,), {})(jobs, most)
    results = run_jobs(launcher, jobs, 3)
    assert (launcher.batches, launcher.most) == (batches, most)
    entries = [job.recorded() for job in jobs]
    assert [entry["error"] for entry in entries[:2]] == [None, KILLED]
    assert entries[3]["error"] == "It could not be started. RuntimeError: its process is gone"
    if batches == [5]:  # what an unknown launcher leaves after a kill is lost
        return
    assert [entry["status"] for entry in entries] == [
        end if end == "finished" else "failed" for end in ENDS
    ]
    assert [results[n] for n in (0, 2, 4)] == ["result 0", "result 2", "result 4"]


def test_a_worker_that_is_told_to_end_ends_one_job_and_this_process_all(jobs, tmp_path):
    ends = ("told to end", "finished")
    jobs = [Job(n, tmp_path / f"job-{n}", tmp_path / "now", (how,)) for n, how in enumerate(ends)]
    run_jobs(type("LocalLauncher", (Launcher,), {})(jobs), jobs, 1)
    assert [job.recorded()["status"] for job in jobs] == ["interrupted", "finished"]
    with pytest.raises(SystemExit):
        run_jobs(type("BasicLauncher", (Launcher,), {})(jobs), jobs, 1)


def test_what_still_works_in_the_directory_is_waited_for(jobs):
    """As the process of a job whose controller under submitit was killed."""
    job, taken = jobs[1], threading.Event()

    def work():
        with file_lock(job.directory / LOCK):
            taken.set()
            time.sleep(0.3)
            job.record("finished")

    thread = threading.Thread(target=work)
    thread.start()
    taken.wait()
    launching.settled(job, RuntimeError("the controller is gone"))
    thread.join()
    assert job.recorded()["status"] == "finished"


def test_jobs_that_slurm_was_given_are_known_by_their_folders(tmp_path):
    names = {"params": {"submitit_folder": str(tmp_path / ".submitit" / "%j")}}
    slurm, local = (type(f"{k}Launcher", (), names)() for k in ("Slurm", "Local"))
    assert submitted_to_slurm(slurm) == set()
    for name in ("12_0", "12_1", "13", "notes"):
        (tmp_path / ".submitit" / name).mkdir(parents=True)
    assert submitted_to_slurm(slurm) == {"12", "13"}
    assert submitted_to_slurm(local) == set()
