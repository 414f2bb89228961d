"""Ray under a sweep: a cluster of its own or one that exists, and what becomes of the jobs."""

import logging
import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from dotenv import dotenv_values
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

from src.errors import UserError
from src.runs.resolvers import ROOT
from src.sweeps.records import LostJobError

log = logging.getLogger(__name__)

LOCAL = (None, "local")
STORE_BYTES = 80_000_000  # for what jobs take and return, which is small
# Starts of variables that jobs need on machines of a cluster that exists: to find this project, to
# log, to show errors in full, and to compute with as many threads and as exactly as elsewhere.
CARRIED = ("PROJECT_ROOT", "PYTHONPATH", "WANDB_", "HYDRA_FULL_ERROR")
CARRIED += ("OMP_", "MKL_", "OPENBLAS_", "CUBLAS_", "NVIDIA_TF32_OVERRIDE", "TORCH_", "PYTORCH_")
RESOURCES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}


def submit(launcher: Launcher, batch: Sequence[Sequence[str]], first: int) -> list[Any]:
    """What each job of a batch returned; an error for one that Ray lost.

    Raises:
        UserError: when the cluster is out of reach, or can run no such job.
    """
    import ray
    from hydra_plugins.hydra_ray_launcher import _core
    from ray.exceptions import RayError, RayTaskError

    def result_or_error(task: ray.ObjectRef) -> Any:
        try:
            return ray.get(task)
        except RayTaskError as error:
            return error.cause
        except RayError as error:
            words = " ".join(str(error).split())[:200]
            return LostJobError(f"Ray says: {type(error).__name__}: {words}")

    settings = OmegaConf.to_container(launcher.ray_cfg, resolve=True)
    if not ray.is_initialized():
        _connect(settings["init"])
        _check_request(settings["remote"], settings["init"]["address"] in LOCAL)
    _core.ray = SimpleNamespace(get=result_or_error)
    return list(launcher.launch(batch, first))


def _connect(init: dict[str, Any]) -> None:
    """Start a cluster for this process, or join one, whose workers lack this shell's variables."""
    import ray

    own = init.get("runtime_env") or {}
    variables = {name: str(value) for name, value in (own.get("env_vars") or {}).items()}
    is_local = init["address"] in LOCAL
    if not is_local:
        variables = _carried() | variables
    if variables:
        init = {**init, "runtime_env": {**own, "env_vars": variables}}
    if is_local:
        ray.init(**{"object_store_memory": STORE_BYTES, **init, "address": "local"})
        return
    try:
        ray.init(**init)
    except (ConnectionError, ValueError) as error:
        words = " ".join(str(error).split())
        raise UserError(
            "`hydra.launcher.ray.init.address` must be that of a cluster of Ray (`ray start "
            f"--head` shows it); got {init['address']}: {words} Use local for a cluster of this "
            "machine. Where the cluster asks for a token, set RAY_AUTH_MODE=token or use auto."
        ) from error


def _carried() -> dict[str, str]:
    """Variables that jobs take along: those of `.env`, and those that begin as `CARRIED` says."""
    stored = dotenv_values(ROOT / ".env")
    return {
        name: value
        for name, value in os.environ.items()
        if name in stored or name.startswith(CARRIED)
    }


def _check_request(remote: dict[str, Any], is_local: bool) -> None:
    """Tell when no machine of the cluster has what a job takes, which Ray would wait for."""
    import ray

    asked = {RESOURCES[key]: value for key, value in remote.items() if key in RESOURCES and value}
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(has.get(key, 0) >= asked[key] for key in asked) for has in machines):
        return
    names = RESOURCES.values()
    listed = [", ".join(f"{key} {has.get(key, 0):g}" for key in names) for has in machines]
    message = (
        "`hydra.launcher.ray.remote` must ask for what one machine of the cluster has; got "
        f"{', '.join(f'{key} {value:g}' for key, value in asked.items())}. Its machines have: "
        f"{'; '.join(listed)}."
    )
    if is_local:
        raise UserError(f"{message} Ask for less, or name a larger cluster.")
    log.warning("%s The jobs wait until one that has it joins.", message)
