"""The job scripts, with `srun` and `scontrol` that note how they are called."""

import os
import signal
import subprocess
import time

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.conftest import ROOT

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
JOB = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "3"}
JOB |= {"SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NUM_NODES": "4"}


@pytest.fixture
def job(tmp_path):
    """Start a job script as SLURM does, with other variables."""
    (tmp_path / "bin").mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)

    def start(script, *arguments, **variables):
        own = {"SLURM_SUBMIT_DIR": str(ROOT), "CALLS": str(tmp_path), "PYTHON": "python"}
        own["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        command = ["bash", ROOT / "scripts/slurm" / script, *arguments]
        return subprocess.Popen(command, env=os.environ | JOB | own | variables)

    return start


def calls(tmp_path, name):
    path = tmp_path / name
    return path.read_text().splitlines() if path.is_file() else []


OWN = {"train.sh": ("trainer=ddp trainer.devices=2 trainer.num_nodes=4", "7")}
OWN["seeds.sh"] = ("trainer=gpu seed=3", "6/3")


@pytest.mark.parametrize("script", OWN)
def test_a_job_has_a_directory_and_resumes_it_when_it_starts_again(job, tmp_path, script):
    own, place = OWN[script]
    assert job(script, "experiment=e", "tags=[a b]").wait() == 0
    command = f"--kill-on-bad-exit=1 python src/train.py {own} experiment=e tags=[a b]"
    assert calls(tmp_path, "srun") == [f"{command} hydra.run.dir='logs/train/slurm/{place}'"]
    assert calls(tmp_path, "scontrol") == []
    run = tmp_path / "it's José's, [a]" / place[2:]
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    assert job(script, RUN_DIR=str(tmp_path / "it's José's, [a]")).wait() == 0
    typed = calls(tmp_path, "srun")[1].partition(" resume=")[2].removesuffix(" trust=true")
    assert OverridesParser.create().parse_override(f"resume={typed}").value() == str(run)


def test_a_run_is_repeated_after_the_time_limit_and_not_after_an_error(job, tmp_path):
    assert job("train.sh", STEP_STATUS="3").wait() == 3
    assert calls(tmp_path, "scontrol") == []
    process = job("train.sh", STEP_SECONDS="30")
    while len(calls(tmp_path, "srun")) < 2:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGUSR1)
    assert process.wait() == 143
    assert calls(tmp_path, "scontrol") == ["requeue 7"]
