"""Sweeps as users start them: killed and started again, under every launcher."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
FAKES = ROOT / "tests" / "helpers"
SETTINGS = ("data=tiny", "trainer=cpu", "logger=csv", "trainer.enable_progress_bar=false")
SWEEP = ("callbacks=one_ended", "trainer.max_epochs=3", "model=tiny,wider", "seed=0,1,2")


def sweep(log_dir: Path, *arguments: str, spared: bool = True) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(FAKES), "OMP_NUM_THREADS": "1"}
    environment.pop("PL_GLOBAL_SEED", None)
    if spared:
        environment["SPARED"] = "1"
    command = ["src/train.py", "-m", f"--config-dir={FAKES / 'configs'}", *SETTINGS]
    return subprocess.run(
        [sys.executable, *command, f"paths.log_dir={log_dir}", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def jobs(log_dir: Path) -> dict[str, Path]:
    """Directories of the jobs, by their names without the hash."""
    runs = log_dir.glob("train/multiruns/*/*/config.yaml")
    return {path.parent.name.rpartition("-")[0]: path.parent for path in runs}


def summary(run: Path) -> dict:
    kept = json.loads((run / "summary.json").read_text())
    return {name: value for name, value in kept.items() if name != "wall_time_s"}


def results(log_dir: Path) -> dict[str, tuple]:
    """What the jobs reached and wrote, to the last digit."""
    return {
        name: (run.name, summary(run), (run / "metrics.csv").read_text())
        for name, run in jobs(log_dir).items()
    }


def assert_same_weights(first: Path, second: Path) -> None:
    paths = [run / "checkpoints" / "last.ckpt" for run in (first, second)]
    states = [torch.load(path, weights_only=True)["state_dict"] for path in paths]
    assert states[0].keys() == states[1].keys()
    for name, weights in states[0].items():
        assert torch.equal(weights, states[1][name]), name


def report(log_dir: Path) -> dict[str, str]:
    """Statuses in sweep.json, by the directory's name without the hash."""
    (path,) = log_dir.glob("train/multiruns/*/sweep.json")
    entries = json.loads(path.read_text())["jobs"]
    return {entry["directory"].rpartition("-")[0]: entry["status"] for entry in entries}


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory) -> Path:
    """Logs of a sweep that nothing happens to."""
    log_dir = tmp_path_factory.mktemp("alone")
    done = sweep(log_dir, *SWEEP)
    assert done.returncode == 0, done.stderr
    assert "6 finished, 0 skipped, 0 failed" in done.stdout
    return log_dir


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_the_same_results(left_alone, tmp_path):
    killed = sweep(tmp_path, *SWEEP, spared=False)
    assert killed.returncode == -9
    found = jobs(tmp_path)
    finished = ["model-tiny_seed-0", "model-tiny_seed-1", "model-tiny_seed-2"]
    assert sorted(found) == [*finished, "model-wider_seed-0"]
    assert not (found["model-wider_seed-0"] / "summary.json").exists()
    written = {name: (found[name] / "summary.json").stat().st_mtime_ns for name in finished}

    again = sweep(tmp_path, *SWEEP)
    assert again.returncode == 0, again.stderr
    assert "Continuing after epoch 2 of 3." in again.stdout
    assert "3 finished, 3 skipped, 0 failed" in again.stdout
    for name, time in written.items():
        assert (found[name] / "summary.json").stat().st_mtime_ns == time
        assert not (found[name] / "resumes.yaml").exists()
    assert results(tmp_path) == results(left_alone)
    for name, run in jobs(tmp_path).items():
        assert_same_weights(run, jobs(left_alone)[name])


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_other_launchers_give_the_same_numbers(left_alone, tmp_path, launcher):
    if launcher == "ray":
        pytest.importorskip("ray", reason="pip install hydra-ray-launcher: too big for `dev`")
        if find_spec("hydra_plugins.hydra_ray_launcher") is None:
            pytest.skip("hydra-ray-launcher is not installed")
    done = sweep(tmp_path, *SWEEP, f"launcher={launcher}")
    assert done.returncode == 0, done.stderr
    assert results(tmp_path) == results(left_alone)
    assert set(report(tmp_path).values()) == {"finished"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["sequential", "joblib", "submitit_local"])
def test_a_failing_job_leaves_the_others_alone(tmp_path, launcher):
    arguments = ("callbacks=minimal", "trainer.max_epochs=1", "model=tiny", f"launcher={launcher}")
    done = sweep(tmp_path, *arguments, "model.net.width=0,8,12")
    assert done.returncode == 1
    assert "1 of 3 jobs of the sweep are not finished" in done.stderr
    assert "`width` must be positive; got 0. Use 8." in done.stderr
    assert report(tmp_path) == {
        "width-0": "failed",
        "width-8": "finished",
        "width-12": "finished",
    }
    failed = jobs(tmp_path)["width-0"]
    assert summary(failed)["status"] == "failed"
    assert "Traceback" in (failed / "train.log").read_text()


@pytest.mark.slow
def test_a_requeued_job_goes_on_to_the_same_result(left_alone, tmp_path):
    """As in a queue: signalled when its time is up, and started again by submitit."""
    done = sweep(
        tmp_path,
        *SWEEP[:2],
        *("callbacks.ended.how=preempt", "callbacks.ended.job=job-", "model=tiny", "seed=0"),
        "launcher=submitit_local",
    )
    assert done.returncode == 0, done.stderr
    (run,) = jobs(tmp_path).values()
    assert "Continuing after epoch 2 of 3." in (run / "train.log").read_text()
    whole = jobs(left_alone)["model-tiny_seed-0"]
    assert (run / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert summary(run) == summary(whole)
    assert_same_weights(run, whole)


@pytest.mark.slow
def test_a_launcher_that_is_not_installed_is_named_with_what_to_do(tmp_path):
    if find_spec("ray") is not None:
        pytest.skip("ray is installed")
    done = sweep(tmp_path, "model=tiny", "seed=0,1", "launcher=ray")
    assert done.returncode == 1
    assert 'got one that needs hydra-ray-launcher. Run `pip install -e ".[sweep]"`' in done.stderr
    assert "Traceback" not in done.stderr
