"""What a run depends on besides its config: code, libraries, machine."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

LIBRARIES = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "numpy",
    "wandb",
    "e2cnn",
    "mlxtend",
    "phiflow",
    "blosc2",
)


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def git_state(root: Path) -> dict[str, Any]:
    """Commit of the code and whether files differ from it.

    Where that cannot be told, both are null and `reason` says why.
    """
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain"))}
    except FileNotFoundError:
        reason = "git is not installed"
    except subprocess.TimeoutExpired:
        reason = "git did not answer within a minute"
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()[0] if error.stderr.strip() else "git failed"
    return {"commit": None, "dirty": None, "reason": reason}


def _library_versions() -> dict[str, str | None]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()


def _devices() -> dict[str, Any]:
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": _processor(),
        "cpu_count": os.cpu_count(),
        "cuda": cuda,
        "mps": torch.backends.mps.is_available(),
        "torch_threads": torch.get_num_threads(),
    }


def describe_environment(root: str | Path, seed: int) -> dict[str, Any]:
    """Code, versions, devices, seed, command line and time, for `environment.json`."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([sys.executable, *sys.argv]),
        "directory": str(Path.cwd()),
        "git": git_state(Path(root)),
        "seed": seed,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": _library_versions(),
        "devices": _devices(),
    }
