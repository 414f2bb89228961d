"""What tests of the entry points share: running them on tiny data, and reading what they leave."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import yaml
from hydra.core.hydra_config import HydraConfig

from src.runs import trust

ROOT = Path(__file__).resolve().parents[1]
FAKES = ROOT / "tests" / "helpers"
TINY = ("data=tiny", "model=tiny", "trainer=cpu")
QUICK = (*TINY, "callbacks=minimal", "logger=csv", "trainer.max_epochs=2")
QUIET = "trainer.enable_progress_bar=false"

os.environ["PROJECT_ROOT"] = str(ROOT)  # as the entry points set it
sys.path.insert(0, str(FAKES))  # run_fakes, which the configs in tests/helpers/configs name
trust.MODULES += ("run_fakes", "shared_fakes", "tests.helpers.windows")  # not in other processes


class RunDirectory:
    """What a run left on disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def _read(self, name: str) -> str:
        return (self / name).read_text()

    summary = property(lambda run: json.loads(run._read("summary.json")))
    config = property(lambda run: yaml.safe_load(run._read("config.yaml")))
    environment = property(lambda run: json.loads(run._read("environment.json")))
    metrics = property(lambda run: run._read("metrics.csv"))
    log = property(lambda run: next(run.path.glob("*.log")).read_text())

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        return torch.load(self.path / "checkpoints" / name, weights_only=True)["state_dict"]


def assert_same_result(run: RunDirectory, whole: RunDirectory) -> None:
    """Two runs reached the same, to the last digit."""
    assert run.metrics == whole.metrics
    assert run.summary | {"wall_time_s": 0} == whole.summary | {"wall_time_s": 0}
    for name in ("best.ckpt", "last.ckpt"):
        torch.testing.assert_close(run.weights(name), whole.weights(name), rtol=0, atol=0)


@contextmanager
def process_as_before() -> Iterator[None]:
    """Take back what an entry point sets: arguments, log handlers, environment, Hydra's job."""
    root, only_file = logging.getLogger(), logging.getLogger("file_only")
    before, level, job = list(root.handlers), root.level, HydraConfig.instance()
    with (
        patch.dict(os.environ),
        patch.object(sys, "argv", sys.argv),
        patch.object(job, "cfg", job.cfg),
    ):
        try:
            yield
        finally:
            for logger in (root, only_file):
                for handler in set(logger.handlers) - set(before):
                    logger.removeHandler(handler)
                    handler.close()
            root.handlers[:] = before
            root.setLevel(level)


def runner(folder: Path) -> Callable[..., RunDirectory]:
    """A function that runs `src/<name>.py` in this process, with run directories below `folder`.

    It returns the directory made last, or the resumed one, and raises what the script ends with.
    """

    def run(name: str, *arguments: str) -> RunDirectory:
        resumed = [a.partition("=")[2] for a in arguments if a.startswith("resume=")]
        place = [] if resumed else [f"paths.log_dir={folder}"]
        with process_as_before():
            flags_first = sorted([*arguments, *place], key=lambda text: text[0] != "-")
            sys.argv = [f"src/{name}.py", f"--config-dir={FAKES / 'configs'}", *flags_first]
            import_module(f"src.{name}").main()
        if resumed:
            return RunDirectory(resumed[0])
        made = folder.glob("*/*/*/**/config.yaml")
        return RunDirectory(max(made, key=lambda path: path.stat().st_mtime_ns).parent)

    return run


def in_a_process(name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Run an entry point as a user does; when it hangs, end it and all that it started."""
    environment = os.environ | {"PYTHONPATH": str(FAKES), "OMP_NUM_THREADS": "1"} | variables
    environment.pop("PL_GLOBAL_SEED", None)
    typed = (f"--config-dir={FAKES / 'configs'}", *arguments, QUIET)
    options = {"text": True, "cwd": ROOT, "env": environment, "start_new_session": True}
    options |= dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, f"src/{name}.py", *typed], **options)
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def run_entry_point(tmp_path: Path) -> Callable[..., RunDirectory]:
    """Run an entry point in this process, with run directories in a folder of the test's own."""
    return runner(tmp_path)


@pytest.fixture
def refused(run_entry_point, tmp_path, capsys) -> Callable[..., tuple[str, str]]:
    """Run an entry point that must end with one message; returns the message and the logs."""

    def run(name: str, *arguments: str) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            run_entry_point(name, *arguments)
        assert ended.value.code == 1
        message = capsys.readouterr().err
        assert "Traceback" not in message
        return message, "".join(path.read_text() for path in tmp_path.rglob("*.log"))

    return run


@pytest.fixture
def train(run_entry_point: Callable[..., RunDirectory]) -> Callable[..., RunDirectory]:
    """Run `src/train.py` on the tiny network and data, with further arguments."""
    return lambda *arguments: run_entry_point("train", *QUICK, QUIET, *arguments)


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A training of four epochs, made once; not to be changed."""
    run = runner(tmp_path_factory.mktemp("first_run"))
    return run("train", *QUICK, QUIET, "trainer.max_epochs=4", "seed=0", "tags=[pilot]")


@pytest.fixture
def earlier_run(first_run: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of `first_run`, to be continued: as if the directory had been moved."""
    return RunDirectory(shutil.copytree(first_run.path, tmp_path / "train" / "runs" / "earlier"))
