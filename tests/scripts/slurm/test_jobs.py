"""The job scripts, with `srun` and `scontrol` that note how they are called."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SRUN = """#!/bin/bash
echo "$@" >> "$CALLS/srun"
trap 'kill %1; exit 143' TERM
sleep "${STEP_SECONDS:-0}" & wait $!
exit "${STEP_STATUS:-0}"
"""
SCONTROL = """#!/bin/bash
echo "$@" >> "$CALLS/scontrol"
kill -TERM "$(pgrep -P "$PPID" srun)"
"""
JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_ARRAY_JOB_ID": "6",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_JOB_NUM_NODES": "4",
}


@pytest.fixture
def job(tmp_path):
    """Start a job script as SLURM does, with other variables."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)

    def start(script, *arguments, **variables):
        own = {"SLURM_SUBMIT_DIR": str(ROOT), "CALLS": str(tmp_path), "PYTHON": "python"}
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", ROOT / "scripts/slurm" / script, *arguments],
            env=os.environ | JOB | own | {"PATH": path} | variables,
        )

    return start


def calls(tmp_path, name):
    path = tmp_path / name
    return path.read_text().splitlines() if path.is_file() else []


@pytest.mark.parametrize(
    ("script", "own", "directory"),
    [
        ("train.sh", "trainer=ddp trainer.devices=2 trainer.num_nodes=4", "7"),
        ("seeds.sh", "trainer=gpu seed=3", "6/3"),
    ],
)
def test_a_job_trains_in_a_directory_of_its_own(job, tmp_path, script, own, directory):
    assert job(script, "experiment=e", "tags=[a b]").wait() == 0
    place = f"hydra.run.dir=logs/train/slurm/{directory}"
    command = f"--kill-on-bad-exit=1 python src/train.py {own} experiment=e tags=[a b] {place}"
    assert calls(tmp_path, "srun") == [command]
    assert calls(tmp_path, "scontrol") == []


@pytest.mark.parametrize("script", ["train.sh", "seeds.sh"])
def test_a_job_that_starts_again_resumes_its_run(job, tmp_path, script):
    run = tmp_path / "run" / ("3" if script == "seeds.sh" else "")
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    assert job(script, RUN_DIR=str(tmp_path / "run")).wait() == 0
    (command,) = calls(tmp_path, "srun")
    assert command.split()[-1].rstrip("/") == f"resume={run}"


def test_a_run_that_fails_is_not_repeated(job, tmp_path):
    assert job("train.sh", STEP_STATUS="3").wait() == 3
    assert calls(tmp_path, "scontrol") == []


def test_before_the_time_limit_the_job_goes_back_into_the_queue(job, tmp_path):
    process = job("train.sh", STEP_SECONDS="30")
    while not calls(tmp_path, "srun"):
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGUSR1)
    assert process.wait() == 143
    assert calls(tmp_path, "scontrol") == ["requeue 7"]
