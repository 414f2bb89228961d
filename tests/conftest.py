"""What tests of the entry points share: running them in this process, on tiny data."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FAKES = ROOT / "tests" / "helpers"
TINY = ("data=tiny", "model=tiny", "trainer=cpu")
QUICK = (*TINY, "callbacks=minimal", "logger=csv", "trainer.max_epochs=2")
QUIET = "trainer.enable_progress_bar=false"

os.environ["PROJECT_ROOT"] = str(ROOT)  # as the entry points set it
sys.path.insert(0, str(FAKES))  # run_fakes, which the configs in tests/helpers/configs name


class RunDirectory:
    """What a run left on disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json"""
        return json.loads((self.path / "summary.json").read_text())

    @property
    def config(self) -> dict[str, Any]:
        """config.yaml"""
        return yaml.safe_load((self.path / "config.yaml").read_text())

    @property
    def environment(self) -> dict[str, Any]:
        """environment.json"""
        return json.loads((self.path / "environment.json").read_text())

    @property
    def metrics(self) -> str:
        """metrics.csv"""
        return (self.path / "metrics.csv").read_text()

    @property
    def log(self) -> str:
        """The console log."""
        return next(self.path.glob("*.log")).read_text()


@pytest.fixture
def fresh_logging() -> Iterator[None]:
    """Take back what an entry point sets in this process: log handlers, environment."""
    root = logging.getLogger()
    before, level, variables = list(root.handlers), root.level, dict(os.environ)
    yield
    named = [logging.getLogger("file_only")]
    for logger in [root, *named]:
        for handler in set(logger.handlers) - set(before):
            logger.removeHandler(handler)
            handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    os.environ.clear()
    os.environ.update(variables)


@pytest.fixture
def run_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_logging: None
) -> Callable[..., RunDirectory]:
    """Run `src/<name>.py` in this process with command-line arguments.

    Returns the run directory that it made last. An error ends it as it ends the script: with
    SystemExit and a message on stderr.
    """

    def run(name: str, *arguments: str) -> RunDirectory:
        module = __import__(f"src.{name}", fromlist=["main"])
        flags = [f"--config-dir={FAKES / 'configs'}", *(a for a in arguments if a[0] == "-")]
        overrides = [*(a for a in arguments if a[0] != "-"), f"paths.log_dir={tmp_path}"]
        monkeypatch.setattr(sys, "argv", [f"src/{name}.py", *flags, *overrides])
        module.main()
        made = tmp_path.glob("*/*/*/**/config.yaml")
        return RunDirectory(max(made, key=lambda path: path.stat().st_mtime_ns).parent)

    return run


@pytest.fixture
def train(run_entry_point: Callable[..., RunDirectory]) -> Callable[..., RunDirectory]:
    """Run `src/train.py` on the tiny network and data, with further arguments."""
    return lambda *arguments: run_entry_point("train", *QUICK, QUIET, *arguments)
