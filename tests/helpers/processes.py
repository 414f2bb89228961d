"""Entry points in processes that can be killed."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import FAKES, QUIET, ROOT


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
