"""Sweeps on a cluster of Ray, where its launcher is installed: `.ci/run` does so."""

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import assert_same_result
from tests.helpers.processes import TRAINING, end, runs, start, statuses, whole_run
from tests.helpers.slurm import free_ports

missing = (
    find_spec("hydra_plugins") is None or find_spec("hydra_plugins.hydra_ray_launcher") is None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing, reason="pip install hydra-ray-launcher: too big for `dev`"),
]
# For machines that have other work, and where an own cluster has left the token that it asked for.
SETTINGS = {"RAY_raylet_start_wait_time_s": "300", "RAY_agent_register_timeout_ms": "300000"}
SETTINGS |= {"RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300", "RAY_AUTH_MODE": "disabled"}
# How workers of a cluster that exists get a variable, and others as well:
SPARED = "+hydra.launcher.ray.init.runtime_env.env_vars.SPARED=1"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A cluster of two cores and one GPU, in name, whose processes do not know this project."""
    unknown = ("PYTHONPATH", "PROJECT_ROOT")
    environment = {name: value for name, value in os.environ.items() if name not in unknown}
    path = tmp_path_factory.mktemp("ray") / "console.txt"
    options = {"env": environment | SETTINGS, "cwd": path.parent}
    for _ in range(3):  # Ray waits for its processes for 30 seconds, whatever the machine has to do
        (port,) = free_ports(1)
        command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block"]
        command += [f"--port={port}", "--num-cpus=2", "--num-gpus=1", "--include-dashboard=false"]
        command += ["--object-store-memory=80000000", "--disable-usage-stats"]
        with path.open("w") as console:
            process = subprocess.Popen(command, **options, stdout=console, stderr=console)
        while not (started := "Ray runtime started" in path.read_text()) and process.poll() is None:
            time.sleep(0.2)
        if started:
            break
    else:
        pytest.fail(path.read_text())
    yield f"127.0.0.1:{port}"
    process.terminate()  # and with it all that it started
    process.wait(60)


def sweep(folder, *typed):
    return start("train", folder, "-m", *TRAINING, "launcher=ray", *typed, **SETTINGS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return whole_run(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("exists", [True, False], ids=["cluster that exists", "own cluster"])
def test_a_killed_worker_is_a_failed_job_and_the_same_command_goes_on(
    tmp_path, request, whole, exists
):
    """On a cluster that exists, two jobs on one GPU."""
    if exists:
        address = request.getfixturevalue("address")
        place = [f"init.address={address}", "remote.num_gpus=0.5"]
    else:
        place = ["init.num_cpus=2"]
    typed = [f"hydra.launcher.ray.{text}" for text in place]
    typed += ["callbacks.ended.job=width-12", "model.net.width=8,12"]
    console = end(sweep(tmp_path, *typed), tmp_path, code=1)
    assert statuses(tmp_path) == {8: "finished", 12: "failed"}
    assert "The process of the job was killed. Ray says: WorkerCrashedError" in console
    end(sweep(tmp_path, *typed, SPARED), tmp_path)
    assert statuses(tmp_path) == {8: "skipped", 12: "finished"}
    run = runs(tmp_path)[12]
    assert "Continuing after epoch 2 of 3." in run.log
    assert_same_result(run, whole)


def test_what_ray_cannot_do_is_told_at_once(tmp_path):
    asked = ("hydra.launcher.ray.remote.num_gpus=100", "hydra.launcher.ray.init.num_cpus=1")
    console = end(sweep(tmp_path, *asked, "seed=0,1"), tmp_path, code=1)
    assert "must ask for what one machine of the cluster has; got CPU 1, GPU 100." in console
    assert "Traceback" not in console
