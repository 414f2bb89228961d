"""What hangs, or does not start, holds nothing up."""

import subprocess
import sys
import threading
import time

import pytest

from src.loggers import wandb_run
from src.loggers.deadlines import done_within, within
from src.loggers.wandb_run import finish_wandb
from tests.conftest import ROOT
from tests.helpers.wandb_files import read_parts

TIMEOUTS = {"init_timeout": 4.0, "finish_timeout": 2.0}


def test_a_call_returns_or_raises_in_time_or_is_left_alone(caplog):
    never = threading.Event()
    assert within(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)
    with pytest.raises(TimeoutError):
        within(0.05, lambda: never.wait(30))
    actions = (int, lambda: 1 / 0, lambda: never.wait(30))
    assert [done_within(0.05, action) for action in actions] == [True, False, False]
    assert "ZeroDivisionError" in caplog.text
    never.set()


@pytest.mark.slow
def test_a_wandb_that_does_not_start_is_a_warning_and_no_run(tmp_path):
    code = f"""
import logging, os, sys
from src.loggers.wandb_run import finish_wandb, start_run
logging.basicConfig(level="WARNING", format="%(levelname)s %(message)s", stream=sys.stdout)
logging.getLogger("file_only").disabled = True
arguments = {{"dir": {str(tmp_path)!r}, "project": "symmetry"}}, None, {TIMEOUTS}
os.environ["WANDB_X_SERVICE_WAIT"] = "0.001"
assert start_run(*arguments) is None
finish_wandb()
del os.environ["WANDB_X_SERVICE_WAIT"]
start_run(*arguments).log({{"a": 1}})  # the next one may
finish_wandb()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    [line] = done.stdout.splitlines()
    assert line.startswith("WARNING W&B: nothing of this run goes there, because it did not start")
    [part] = read_parts(tmp_path)
    assert [row["a"] for row in part.history] == [1]


def test_a_wandb_that_hangs_is_waited_for_once(tmp_path, monkeypatch, caplog):
    released = threading.Event()
    monkeypatch.setattr(wandb_run, "HANGING", [])
    monkeypatch.setattr(wandb_run, "STARTING_SECONDS", 0.2)
    monkeypatch.setattr(wandb_run, "_start_run", lambda *arguments: released.wait(30))
    arguments = {"dir": str(tmp_path), "project": "symmetry"}, None, {**TIMEOUTS, "init_timeout": 0}
    assert wandb_run.start_run(*arguments) is None
    started = time.monotonic()
    assert wandb_run.start_run(*arguments) is None
    finish_wandb()
    assert time.monotonic() - started < 0.15
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "it did not start within 0 s" in caplog.text
    released.set()
