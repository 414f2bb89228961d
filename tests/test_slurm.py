"""Sweeps and job scripts on a SLURM cluster of one node, where SLURM is installed."""

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import FAKES, QUIET, ROOT, RunDirectory, assert_same_result
from tests.helpers.processes import TRAINING, end, entries, runs, start, statuses, whole_run
from tests.helpers.slurm import ACCOUNTING, ask, cluster, missing, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

LAUNCHER = ("launcher=slurm_cpu", "hydra.launcher.mem_gb=2", "hydra.launcher.cpus_per_task=1")
LAUNCHER += ("hydra.launcher.timeout_min=20", "hydra.launcher.partition=cpu")


@pytest.fixture(scope="module", autouse=True)
def slurm():
    with cluster():
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return whole_run(tmp_path_factory.mktemp("whole"))


def sweep(folder, *arguments, **variables):
    return start("train", folder, "-m", *TRAINING, *LAUNCHER, *arguments, **variables)


def queue(*states):
    """Jobs in the queue, in one of these states."""
    lines = ask("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
    return [line.split()[0] for line in lines if line.split()[1] in states]


def start_again(job):
    """Wait until a job is requeued, and spare it the minutes that SLURM lets it wait then."""
    wait_until(lambda: job in queue("PENDING"))
    ask("scontrol", "update", f"JobId={job}", "StartTime=now")


def is_waiting(folder):
    return any(folder.rglob("waiting"))


def test_killed_and_cancelled_jobs_fail_alone_and_the_same_command_goes_on(tmp_path, whole):
    typed = ("callbacks.ended.job=width-12", "model.net.width=8,0,12,16")
    process = sweep(tmp_path, *typed)
    wait_until(lambda: len(queue("PENDING", "RUNNING")) == 4)
    (last,) = [job for job in queue("PENDING") if job.endswith("_3")]
    wait_until(lambda: last in queue("RUNNING"))
    ask("scancel", last)
    console = end(process, tmp_path, code=1)
    found = entries(tmp_path)
    assert statuses(tmp_path) == {8: "finished", 0: "failed", 12: "failed", 16: "failed"}
    assert found[0]["error"] == "model.net: `width` must be positive; got 0. Use 8."
    assert "The process of the job was killed. SLURM says of its job" in found[12]["error"]
    assert f"SLURM says of its job {last}: CANCELLED. Log: " in found[16]["error"]
    assert "3 of 4 jobs of the sweep are not finished" in console and "sacct" not in console
    process = sweep(tmp_path, *typed, SPARED="1")
    wait_until(lambda: queue("PENDING", "RUNNING"))
    assert len(queue("PENDING", "RUNNING")) == 3  # what was finished is not submitted
    end(process, tmp_path, code=1)
    assert statuses(tmp_path) == {8: "skipped", 0: "failed", 12: "finished", 16: "finished"}
    done = runs(tmp_path)
    assert "Continuing after epoch 2 of 3." in done[12].log
    assert_same_result(done[12], whole)
    environment = done[16].environment
    assert environment["slurm_job"].endswith("_2")
    assert environment["command"].startswith(f"{sys.executable} src/train.py ")


@pytest.mark.skipif(missing(*ACCOUNTING) is not None, reason=str(missing(*ACCOUNTING)))
def test_with_accounting_a_killed_job_fails_alone_too(tmp_path):
    with cluster(accounting=True):
        typed = ("callbacks.ended.job=width-12", "model.net.width=8,12")
        end(sweep(tmp_path, *typed), tmp_path, code=1)
        wait_until(lambda: "FAILED" in ask("sacct", "--noheader"))
    assert statuses(tmp_path) == {8: "finished", 12: "failed"}


def test_a_requeued_job_and_one_whose_time_is_up_reach_the_same_result(tmp_path, whole):
    """SLURM warns a job between 60 and 90 seconds after its start here."""
    folders = [tmp_path / name for name in ("requeued", "limited")]
    waiting = ("callbacks.ended.how=wait", "model.net.width=12")
    limit = ("hydra.launcher.timeout_min=3", "hydra.launcher.signal_delay_s=90")
    started = [sweep(folders[0], *waiting), sweep(folders[1], *waiting, *limit)]
    wait_until(lambda: all(map(is_waiting, folders)))
    requeued, limited = (_number(folder) for folder in folders)
    ask("scontrol", "requeue", requeued)
    start_again(requeued)
    start_again(limited)
    for process, folder in zip(started, folders):
        end(process, folder)
        run = RunDirectory(next(folder.glob("train/multiruns/*/job-*")))
        assert "Continuing after epoch 2 of 3." in run.log
        assert_same_result(run, whole)
    logs = [path.read_text() for path in folders[1].rglob("*_log.err")]
    assert any("this job is timed-out" in text for text in logs)


def _number(folder):
    """Number of the job of a sweep that has one."""
    (path,) = folder.glob("train/multiruns/*/.submitit/[0-9]*")
    return path.name


def test_ctrl_c_leaves_jobs_in_the_queue_and_says_how_to_end_them(tmp_path):
    held = ("+hydra.launcher.additional_parameters.hold=true", "hydra.launcher.array_parallelism=1")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it behind `&`
    process = sweep(tmp_path, *held, "model.net.width=8,12")
    signal.signal(signal.SIGINT, before)
    wait_until(lambda: len(queue("PENDING")) == 2)
    number = queue("PENDING")[0].partition("_")[0]
    assert "ArrayTaskThrottle=1 " in ask("scontrol", "show", "job", number)  # jobs at once
    process.send_signal(signal.SIGINT)
    console = end(process, tmp_path, code=130)
    assert "stay queued" in console and f"scancel {number}" in console
    assert "Traceback" not in console and len(queue("PENDING")) == 2
    ask("scancel", number)


def test_what_slurm_refuses_is_told_at_once(tmp_path):
    console = end(sweep(tmp_path, "hydra.launcher.mem_gb=100", "seed=0,1"), tmp_path, code=1)
    assert "must ask for what nodes of one partition have; got partition=cpu" in console
    assert "1 of" in console and "7.81 GB and 2 GPUs, for up to 60 minutes" in console
    console = end(sweep(tmp_path, "hydra.launcher.constraint=x", "seed=0,1"), tmp_path, code=1)
    assert "SLURM must accept the jobs of the sweep; `sbatch` gave: " in console
    assert "Invalid feature specification" in console and "Traceback" not in console


def sbatch(folder, script, *arguments, **variables):
    """Submit a job script, given with its options; returns its number."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHON": sys.executable, "RUN_DIR": str(folder / "runs")}
    environment |= {"PYTHONPATH": str(FAKES), "OMP_NUM_THREADS": "1"} | variables
    options = ("--parsable", "--mem=2G", "--cpus-per-task=1", "--time=20")
    command = ["sbatch", *options, f"--output={folder}/%j.out", *script.split()]
    configs = f"hydra.searchpath=[file://{FAKES / 'configs'}]"
    command += [configs, *TRAINING, "model.net.width=12", QUIET, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def finished(folder):
    """The run of a job script, once the queue is empty."""
    wait_until(lambda: not queue("PENDING", "RUNNING", "COMPLETING"))
    (run,) = (path.parent for path in (folder / "runs").rglob("config.yaml"))
    outputs = [path.read_text() for path in folder.glob("*.out")]
    assert RunDirectory(run).summary["status"] == "finished", outputs
    return RunDirectory(run)


def test_job_scripts_train_and_a_requeued_run_goes_on(tmp_path, whole):
    """The signal is the one that SLURM sends before the time limit."""
    waiting = "callbacks.ended.how=wait"
    number = sbatch(tmp_path / "seeds", "--array=0 scripts/slurm/seeds.sh", "trainer=cpu", waiting)
    wait_until(lambda: is_waiting(tmp_path))
    ask("scancel", "--batch", "--signal=USR1", f"{number}_0")
    start_again(f"{number}_0")
    run = finished(tmp_path / "seeds")
    assert "Continuing after epoch 2 of 3." in run.log
    assert_same_result(run, whole)
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.sync_batchnorm=false")
    two += ("trainer.devices=2", "trainer.num_nodes=1")
    sbatch(tmp_path / "train", "scripts/slurm/train.sh", *two, SPARED="1")
    assert finished(tmp_path / "train").config["trainer"]["devices"] == 2
