"""What a run depends on besides its config: code, libraries, machine."""

import os
import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

LIBRARIES = (
    *("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf", "numpy"),
    *("wandb", "e2cnn", "mlxtend", "blosc2"),
)


def git_state(root: Path) -> dict[str, Any]:
    """Commit of the code and whether files differ from it; else both null, and a `reason`."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        options = {"capture_output": True, "text": True, "timeout": 60}
        return subprocess.run(command, check=True, **options).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or f"git failed: {error}"
    return {"commit": None, "dirty": None, "reason": reason.strip()}


def slurm_job() -> str | None:
    """Number of the SLURM job that this process is in, as `squeue` shows it."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID")


def describe_environment(root: str | Path, seed: int) -> dict[str, Any]:
    """Code, versions, devices, seed, command line and time, for `environment.json`."""
    libraries = dict.fromkeys(LIBRARIES)
    for library in LIBRARIES:
        with suppress(PackageNotFoundError):
            libraries[library] = version(library)
    cpuinfo = Path("/proc/cpuinfo")  # of Linux, where platform.processor() is empty
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([sys.executable, *sys.argv]),
        "slurm_job": slurm_job(),
        "directory": str(Path.cwd()),
        "git": git_state(Path(root)),
        "seed": seed,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": libraries,
        "devices": {
            "cpu": names[0] if names else platform.processor() or platform.machine(),
            "cpu_count": os.cpu_count(),
            "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            "mps": torch.backends.mps.is_available(),
            "torch_threads": torch.get_num_threads(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        },
    }
