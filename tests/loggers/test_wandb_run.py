"""Runs start without a prompt and within bounds, whatever the key and the server are like."""

import logging
import os
import pty
import random
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from src.errors import UserError
from src.loggers import wandb_run
from src.loggers.wandb_run import find_parts, finish_wandb, is_waiting, start_run
from tests.helpers import wandb_server
from tests.helpers.wandb_files import read_parts
from tests.helpers.wandb_server import KEY, closed_address, leaves_file_open, silent_server

TIMEOUTS = {"init_timeout": 4.0, "finish_timeout": 2.0}
ROOT = Path(__file__).parents[2]


def start(directory, run_id=None):
    return start_run({"dir": str(directory), "project": "symmetry"}, run_id, TIMEOUTS)


def messages(caplog):
    """Level and text of what the project's own code logged."""
    records = [record for record in caplog.records if record.name == wandb_run.__name__]
    assert not any("\n" in record.getMessage() for record in records)
    return [(record.levelno, record.getMessage()) for record in records]


def history(directory):
    """What was logged as `a` to the one part of a run."""
    [part] = read_parts(directory)
    return [row["a"] for row in part.history]


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({}, "no API key is configured"),
        ({"MODE": "offline", "API_KEY": KEY}, "WANDB_MODE"),
        ({"API_KEY": "abc"}, "WANDB_API_KEY invalid: API key must have 40+ char"),
    ],
)
def test_offline_without_asking_the_server(tmp_path, monkeypatch, server, caplog, variables, why):
    monkeypatch.delenv("WANDB_API_KEY")
    for name, value in variables.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run = start(tmp_path)
    run.log({"a": 1})
    finish_wandb(exit_code=1)
    assert (run.offline, server.requests) == (True, 0)
    (level, text), end = messages(caplog)
    assert level == (logging.WARNING if "invalid" in why else logging.INFO) and why in text
    assert end == (logging.INFO, f"W&B: upload this run with: wandb sync {tmp_path}/wandb")
    assert [part.exit_code for part in read_parts(tmp_path)] == [1]


@pytest.mark.parametrize("silent", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_server_that_does_not_answer_means_offline_at_once(tmp_path, use, caplog, silent):
    with silent_server() if silent else nullcontext(closed_address()) as url:
        use(url, "wandb_v1_" + "a" * 77)  # another kind of key
        started = time.monotonic()
        assert start(tmp_path).offline
        assert time.monotonic() - started < 8
    [(level, text)] = messages(caplog)
    why = "" if silent else r"[Errno 111] Connection refused"
    assert level == logging.WARNING and f"{url} cannot be reached ({why}" in text


@pytest.mark.parametrize(("name", "value"), [("mode", "of"), ("base_url", "wandb"), ("mode", "")])
def test_settings_that_wandb_refuses_are_named(tmp_path, monkeypatch, name, value):
    monkeypatch.setenv(f"WANDB_{name.upper()}", value)
    with pytest.raises(UserError, match=f"refuses one of its settings; got: .*{name}.*unset"):
        start(tmp_path)


@pytest.mark.slow
def test_a_login_is_found_and_a_refused_key_means_offline(
    tmp_path, monkeypatch, server, caplog, capfd
):
    monkeypatch.delenv("WANDB_API_KEY")
    server.refuses, machine = True, server.url.removeprefix("http://")
    Path(os.environ["NETRC"]).write_text(f"machine {machine}\nlogin user\npassword {KEY}\n")
    run = start(tmp_path)
    run.log({"a": 1})
    assert run.offline
    [(level, text)] = messages(caplog)
    assert (level, "did not start it (" in text) == (logging.WARNING, True)
    finish_wandb()
    assert history(tmp_path) == [1], "and the refused start left nothing behind"
    assert "Traceback" not in capfd.readouterr().err


def test_with_a_key_and_a_server_it_is_online(tmp_path, server, caplog, capfd):
    run = start(tmp_path)
    run.log({"a": 1})
    finish_wandb()
    assert not run.offline
    assert messages(caplog) == [(logging.INFO, f"W&B: {server.url}/me/symmetry/runs/{run.id}")]
    assert [row["a"] for row in server.history(run.id)] == [1]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_server_lost_on_the_way_delays_the_end_by_the_timeout_only(tmp_path, use, caplog):
    with wandb_server.wandb_server() as server:
        use(server.url)
        run = start(tmp_path)
    run.log({"a": 1})
    started = time.monotonic()
    finish_wandb()
    assert time.monotonic() - started < TIMEOUTS["finish_timeout"] + 2
    _, (level, text) = messages(caplog)
    assert level == logging.WARNING and f"wandb sync --include-online {run.sync_dir}" in text
    assert history(tmp_path) == [1]


@pytest.mark.slow
def test_a_part_that_waits_for_upload_keeps_a_run_offline(tmp_path, server, monkeypatch, caplog):
    with monkeypatch.context() as away:
        away.setenv("WANDB_MODE", "offline")
        first = start(tmp_path)
        finish_wandb()
    caplog.clear()
    assert start(tmp_path, first.id).offline
    assert "an earlier part of it is not uploaded yet" in messages(caplog)[0][1]
    finish_wandb()
    for part in find_parts(tmp_path, first.id):
        assert is_waiting(part)
        part.with_suffix(".wandb.synced").touch()
        assert not is_waiting(part)
    run = start(tmp_path, first.id)
    assert (run.offline, run.id) == (False, first.id)
    assert len(find_parts(tmp_path, first.id)) >= 2
    assert not find_parts(tmp_path, "other")


@pytest.mark.slow
def test_each_start_is_its_own_run_and_reads_the_environment_anew(tmp_path, monkeypatch):
    before = dict(os.environ)
    first = start(tmp_path / "0")
    first.log({"a": 1})
    monkeypatch.setenv("WANDB_MODE", "disabled")
    second = start(tmp_path / "1")  # the first one was not ended
    assert first.id != second.id
    assert (first.offline, second.disabled) == (True, True)
    finish_wandb()
    monkeypatch.delenv("WANDB_MODE")
    assert dict(os.environ) == before
    assert [part.exit_code for part in read_parts(tmp_path / "0")] == [0]


@pytest.mark.slow
@leaves_file_open
@pytest.mark.parametrize("refuses", [False, True])
def test_below_an_agent_a_continued_run_keeps_its_own_id(tmp_path, sweep, server, refuses):
    """And one that loses its server that of the agent."""
    server.refuses = refuses
    run = start(tmp_path / "run", None if refuses else "abcd1234")
    assert (run.id, run.offline) == ("agentrun" if refuses else "abcd1234", refuses)
    assert refuses or run.project == "symmetry"


def test_random_numbers_are_the_same_with_and_without_wandb(tmp_path):
    def states():
        numpy_state = np.random.mtrand._rand.get_state()[1].tolist()
        return random.getstate(), numpy_state, torch.get_rng_state().tolist()

    before = states()
    start(tmp_path).log({"a": 1})
    finish_wandb()
    assert states() == before


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_a_wandb_process_that_is_gone_or_hangs_does_not_hold_up_the_end(tmp_path, how):
    code = f"""
import logging, os, signal, sys
from src.errors import UserError
from src.loggers import wandb_run
logging.basicConfig(level="WARNING", format="%(message)s", stream=sys.stdout)
logging.getLogger("file_only").disabled = True
wandb_run.CLOSING_SECONDS = 0.5
arguments = {{"dir": {str(tmp_path)!r}, "project": "symmetry"}}, None, {TIMEOUTS}
wandb_run.start_run(*arguments)
process = int(os.environ["WANDB_SERVICE"].split("/")[2].split("-")[2])
os.kill(process, signal.{how})
wandb_run.finish_wandb()
wandb_run.CLOSING_SECONDS = 10
wandb_run.start_run(*arguments).log({{"a": 1}})
wandb_run.finish_wandb()
os.kill(process, signal.SIGKILL)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    [line] = done.stdout.splitlines()
    assert line.startswith("W&B did not end the run; what it wrote is kept in")
    last = max(read_parts(tmp_path), key=lambda part: part.path.stat().st_mtime)
    assert [row["a"] for row in last.history] == [1]


@pytest.mark.slow
def test_a_terminal_is_asked_nothing_and_wandb_imported_when_a_run_starts(tmp_path):
    code = (
        "import sys, logging; logging.basicConfig(level='INFO', stream=sys.stdout)\n"
        "from src.loggers import wandb_logger\n"
        "from src.loggers.wandb_run import start_run, finish_wandb\n"
        "finish_wandb(); assert 'wandb' not in sys.modules\n"
        f"run = start_run({{'dir': '{tmp_path}', 'project': 'p'}}, None, {TIMEOUTS})\n"
        "run.log({'a': 1}); finish_wandb()"
    )
    ours, theirs = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **streams)
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 4096):
            text += chunk
    except OSError:  # how a terminal shows that its last program has ended
        pass
    assert process.wait(timeout=60) == 0, text.decode()
    lines = [line for line in text.decode().splitlines() if line]
    assert all(line.startswith("INFO:src.loggers.wandb_run:W&B: ") for line in lines), text
    assert len(lines) == 2
