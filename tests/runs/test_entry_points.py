import getpass
import io
import os
import pwd
import re
import sys
import tempfile
from pathlib import Path

import pytest

from src.runs.entry_points import INTERRUPTED, entry_point, show_any_text

OLD = [  # script, what is typed, the old name in it and the new one
    ("train", "sweep_name=pilot", "sweep_name", "sweep.name"),
    ("train", "rerun=true,false", "rerun", "sweep.rerun"),
    ("search", "+fail_fast=true", "fail_fast", "sweep.fail_fast"),
    ("train", "++spread_jobs=false", "spread_jobs", "sweep.spread_jobs"),
    ("measure", "measure.hessian.only=a", "measure.hessian.only", "measure.hessian.checkpoint"),
    ("measure", "again=true", "again", "overwrite"),
    ("measure", "out=a,b", "out", "output_dir"),
    ("train", "trainer=gpu,fsdp", "trainer=fsdp", "trainer=ddp"),
]
for net in ("cnn", "gcnn", "e2cnn", "rsteer", "rtrans"):
    old = f"experiment={net}_smoke_rotation"
    OLD.append(("train", old, old, f"experiment=rgcnn_smoke_rotation model={net}_smoke_paper"))


@pytest.fixture(autouse=True)
def process(monkeypatch):
    """What an entry point sets for good in a process of its own."""
    monkeypatch.setattr("gc.set_threshold", lambda threshold: None)
    monkeypatch.setattr("logging.raiseExceptions", True)
    monkeypatch.setattr("src.runs.entry_points.show_any_text", lambda: None)


def test_old_names_are_refused_with_the_new_ones_and_others_left_to_hydra(monkeypatch):
    def run(script, *typed):
        monkeypatch.setattr(sys, "argv", [f"src/{script}.py", "-m", "seed=0", *typed])
        entry_point(sys.exit)("reached")

    for script, typed, old, new in OLD:
        message = f"`{old}` is of an earlier version. Use `{new}`."
        with pytest.raises(SystemExit, match=f"^{re.escape(message)}$"):
            run(script, typed)
    with pytest.raises(SystemExit, match=r"^`rerun` .*\n`sweep_name` .*$"):
        run("train", "rerun=true", "sweep_name=a")
    current = ("sweep.name=out", "measure.hessian.checkpoint=null", "trainer=ddp")
    current += ("model=cnn_smoke_paper", "experiment=rgcnn_smoke_rotation,rtrans_smoke_translation")
    with pytest.raises(SystemExit, match="reached"):
        run("export", "out=network.onnx", *current)


def test_ctrl_c_before_a_run_is_one_line(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["src/train.py"])
    with pytest.raises(SystemExit) as ended:
        entry_point(interrupted)()
    assert ended.value.code == INTERRUPTED == 130
    assert capsys.readouterr().err == "Interrupted before anything was done.\n"


def test_a_user_whom_the_system_does_not_know_has_a_name_and_a_home(monkeypatch):
    """As in a container started with a number for a user."""

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    names = ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME")
    with monkeypatch.context() as context:
        context.setattr(sys, "argv", ["src/train.py"])
        for name in names:
            context.setenv(name, "")  # to be put back
            context.delenv(name)
        context.setattr(pwd, "getpwuid", unknown)
        found = entry_point(lambda: (getpass.getuser(), Path.home()))()
    assert found == (str(os.getuid()), Path(tempfile.gettempdir()))


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_the_console_shows_what_it_can(monkeypatch, encoding):
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with monkeypatch.context() as context:
            context.setattr(sys, name, stream)
            show_any_text()
            stream.write("0:00 \u2022 1:00")
            stream.flush()
        assert stream.buffer.getvalue().decode(encoding) in ("0:00 ? 1:00", "0:00 \u2022 1:00")
