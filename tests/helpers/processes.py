"""Entry points in processes that can be killed, and what becomes of a sweep over widths."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import FAKES, QUIET, ROOT, TINY, RunDirectory

# Ended in the third epoch unless the environment variable SPARED is set.
TRAINING = (*TINY, "logger=csv", "callbacks=ended", "trainer.max_epochs=3")


def start(name: str, folder: Path, *arguments: str, **variables: str) -> subprocess.Popen:
    """Start `src/<name>.py`, with run directories below `folder` and environment variables."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(FAKES), "OMP_NUM_THREADS": "1"} | variables
    environment.pop("PL_GLOBAL_SEED", None)
    typed = [f"--config-dir={FAKES / 'configs'}", *arguments, QUIET, f"paths.log_dir={folder}"]
    command = [sys.executable, f"src/{name}.py", *typed]
    with (folder / "console.txt").open("a") as console:
        return subprocess.Popen(command, stdout=console, stderr=console, cwd=ROOT, env=environment)


def end(process: subprocess.Popen, folder: Path, code: int = 0) -> str:
    """Wait for a process, which must end with this exit code; what all processes wrote."""
    process.wait(timeout=600)  # that of a sweep waits for machines that have other work
    console = (folder / "console.txt").read_text()
    assert process.returncode == code, console
    return console


def whole_run(folder: Path) -> RunDirectory:
    """A run of width 12 that nothing ends."""
    end(start("train", folder, *TRAINING, "model.net.width=12", SPARED="1"), folder)
    return RunDirectory(next(folder.glob("train/runs/*")))


def entries(folder: Path) -> dict[int, dict]:
    """What `sweep.json` says of each job, by the width of its network."""
    (path,) = folder.glob("train/multiruns/*/sweep.json")
    jobs = json.loads(path.read_text())["jobs"]
    return {int(entry["directory"].split("-")[1]): entry for entry in jobs}


def statuses(folder: Path) -> dict[int, str]:
    return {width: entry["status"] for width, entry in entries(folder).items()}


def runs(folder: Path) -> dict[int, RunDirectory]:
    """The runs of a sweep that have a summary, by the width of their networks."""
    paths = (path.parent for path in folder.glob("train/multiruns/*/width-*/summary.json"))
    return {int(path.name.split("-")[1]): RunDirectory(path) for path in paths}
