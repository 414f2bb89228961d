"""Runs start without a prompt and within bounds, whatever the key and the server are like."""

import logging
import os
import pty
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from src.loggers import wandb_run
from src.loggers.wandb_offline import find_wandb_files, read_wandb_file
from src.loggers.wandb_run import finish_wandb, start_run
from tests.helpers.wandb_server import (
    KEY,
    closed_address,
    isolate_wandb,
    leaves_file_open,
    silent_server,
    wandb_server,
)

if TYPE_CHECKING:
    from wandb import Run

TIMEOUTS = {"init_timeout": 4.0, "finish_timeout": 2.0}
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def isolated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    isolate_wandb(monkeypatch, tmp_path / "home")
    caplog.set_level(logging.INFO, "src.loggers.wandb_run")
    yield
    finish_wandb()


def start(directory: Path, run_id: str | None = None) -> "Run":
    return start_run({"dir": str(directory), "project": "symmetry"}, run_id, TIMEOUTS)


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the project's own code said."""
    return [record for record in caplog.records if record.name == wandb_run.__name__]


def only(caplog: pytest.LogCaptureFixture, level: int) -> str:
    """The one message of a test, whose level must be `level`."""
    [record] = told(caplog)
    assert record.levelno == level
    assert "\n" not in record.getMessage()
    return record.getMessage()


def test_without_a_key_it_is_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        run = start(tmp_path)
        run.log({"a": 1})
        assert run.offline
        assert "no API key is configured" in only(caplog, logging.INFO)
        caplog.clear()
        finish_wandb(exit_code=1)
        assert server.requests == 0
    assert only(caplog, logging.INFO) == f"W&B: upload this run with: wandb sync {tmp_path}/wandb"
    [file] = find_wandb_files(tmp_path)
    assert read_wandb_file(file).exit_code == 1


@pytest.mark.parametrize("mode", ["offline", "dryrun"])
def test_the_mode_of_the_environment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert start(tmp_path).offline
    assert "WANDB_MODE" in only(caplog, logging.INFO)


def test_a_disabled_run_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = start(tmp_path)
    run.log({"a": 1})
    finish_wandb()
    assert run.disabled
    assert not told(caplog)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"), [("WANDB_MODE", "of"), ("WANDB_BASE_URL", "wandb"), ("WANDB_MODE", "")]
)
def test_settings_that_wandb_refuses_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    setting = name.removeprefix("WANDB_").lower()
    with pytest.raises(ValueError, match=f"refuses one of its settings; got: .*{setting}.*unset"):
        start(tmp_path)


def test_a_malformed_key_means_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "abc")
    assert start(tmp_path).offline
    assert "WANDB_API_KEY invalid: API key must have 40+ characters" in only(
        caplog, logging.WARNING
    )


@pytest.mark.parametrize("key", [KEY, "wandb_v1_" + "a" * 77])
def test_a_closed_address_means_offline_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_BASE_URL", closed_address())
    assert start(tmp_path).offline
    assert "cannot be reached ([Errno 111] Connection refused)" in only(caplog, logging.WARNING)


def test_a_silent_server_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with silent_server() as url:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", url)
        started = time.monotonic()
        assert start(tmp_path).offline
        assert time.monotonic() - started < 8
    assert f"{url} cannot be reached" in only(caplog, logging.WARNING)


def test_a_login_is_found_and_a_refused_key_means_offline(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture,
) -> None:
    with wandb_server(refuses=True) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        netrc = f"machine {server.url.removeprefix('http://')}\n  login user\n  password {KEY}\n"
        (tmp_path / "home").mkdir(exist_ok=True)
        (tmp_path / "home" / "netrc").write_text(netrc)
        run = start(tmp_path)
        run.log({"a": 1})
    assert run.offline
    assert "did not start it (" in only(caplog, logging.WARNING)
    [file] = find_wandb_files(tmp_path)  # the refused start left nothing behind
    finish_wandb()
    assert read_wandb_file(file).values("a") == [1]
    assert "Traceback" not in capfd.readouterr().err


def test_with_a_key_and_a_server_it_is_online(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture,
) -> None:
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        run = start(tmp_path)
        assert not run.offline
        assert only(caplog, logging.INFO) == f"W&B: {server.url}/me/symmetry/runs/{run.id}"
        run.log({"a": 1})
        finish_wandb()
        assert [row["a"] for row in server.history(run.id)] == [1]
    assert len(told(caplog)) == 1
    assert capfd.readouterr() == ("", "")


def test_a_server_lost_on_the_way_delays_the_end_by_the_timeout_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        run = start(tmp_path)
    run.log({"a": 1})
    caplog.clear()
    started = time.monotonic()
    finish_wandb()
    assert time.monotonic() - started < TIMEOUTS["finish_timeout"] + 2
    assert f"wandb sync --include-online {run.sync_dir}" in only(caplog, logging.WARNING)
    [file] = find_wandb_files(tmp_path)
    assert read_wandb_file(file).values("a") == [1]


def test_a_part_that_waits_for_upload_keeps_a_run_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = start(tmp_path)
    finish_wandb()
    [file] = find_wandb_files(tmp_path)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        caplog.clear()
        assert start(tmp_path, first.id).offline
        assert "an earlier part of it is not uploaded yet" in only(caplog, logging.INFO)
        finish_wandb()
        for file in find_wandb_files(tmp_path):
            file.with_suffix(".wandb.synced").touch()
        run = start(tmp_path, first.id)
        assert (run.offline, run.id) == (False, first.id)


def test_each_start_is_its_own_run_and_reads_the_environment_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    [file] = find_wandb_files(tmp_path / "0")
    assert read_wandb_file(file).exit_code == 0


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the agent of a W&B sweep sets for a run that it starts."""
    chosen = tmp_path / "config-agentrun.yaml"
    chosen.write_text("wandb_version: 1\nmodel.alpha: {value: 0.1}\nseed: {value: 3}\n")
    names = {"SWEEP_ID": "sweep123", "RUN_ID": "agentrun", "PROJECT": "tuning", "ENTITY": "team"}
    for name, value in {**names, "SWEEP_PARAM_PATH": str(chosen)}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    return names


@leaves_file_open
def test_a_run_of_a_sweep_is_the_one_that_the_agent_announced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    sweep: dict[str, str],
) -> None:
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        run = start(tmp_path / "run")
        assert (run.id, run.sweep_id, run.project) == ("agentrun", "sweep123", "tuning")
        assert dict(run.config) == {"model.alpha": 0.1, "seed": 3}
        finish_wandb()
    keys = ("name", "sweep", "project", "entity")
    assert [server.buckets[0][key] for key in keys] == ["agentrun", "sweep123", "tuning", "team"]
    assert capfd.readouterr() == ("", "")


@leaves_file_open
def test_a_run_of_a_sweep_that_loses_its_server_keeps_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep: dict[str, str]
) -> None:
    with wandb_server(refuses=True) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        run = start(tmp_path / "run")
    assert (run.id, run.offline) == ("agentrun", True)


@leaves_file_open
def test_a_continued_run_keeps_its_id_also_below_an_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep: dict[str, str]
) -> None:
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        run = start(tmp_path / "run", "abcd1234")
        assert (run.id, run.offline, run.project) == ("abcd1234", False, "symmetry")


def random_state() -> list[bytes]:
    numpy_state = np.random.mtrand._rand.get_state()[1]
    states = random.getstate(), numpy_state.tolist(), torch.get_rng_state().tolist()
    return [repr(state).encode() for state in states]


def test_random_numbers_are_the_same_with_and_without_wandb(tmp_path: Path) -> None:
    before = random_state()
    start(tmp_path).log({"a": 1})
    finish_wandb()
    assert random_state() == before


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_a_wandb_process_that_is_gone_or_hangs_does_not_hold_up_the_end(
    tmp_path: Path, how: str
) -> None:
    code = f"""
import logging, os, signal, sys
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
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith("W&B did not end the run; what it wrote is kept in")
    assert len(done.stdout.splitlines()) == 1
    last = max(find_wandb_files(tmp_path), key=lambda file: file.stat().st_mtime)
    assert read_wandb_file(last).values("a") == [1]


@pytest.mark.slow
def test_a_terminal_is_asked_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, logging; logging.basicConfig(level='INFO', stream=sys.stdout)\n"
        "from src.loggers.wandb_run import start_run, finish_wandb\n"
        f"run = start_run({{'dir': '{tmp_path}', 'project': 'p'}}, None, {TIMEOUTS})\n"
        "run.log({'a': 1}); finish_wandb()"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 4096):
            text += chunk
    except OSError:  # how a terminal tells that its last program has ended
        pass
    assert process.wait(timeout=60) == 0
    lines = [line for line in text.decode().splitlines() if line]
    assert all(line.startswith("INFO:src.loggers.wandb_run:W&B: ") for line in lines), text
    assert len(lines) == 2


@pytest.mark.slow
def test_wandb_is_imported_by_runs_that_use_it_only() -> None:
    code = (
        "import sys; import src.loggers.wandb_logger as logger; logger.finish_wandb();"
        "sys.exit('wandb' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
