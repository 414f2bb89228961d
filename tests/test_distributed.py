"""Runs of two processes on the CPU, as users start them, against runs of one."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
FAKES = ROOT / "tests" / "helpers"
SECONDS = 300
IMAGES = ("data=shared_images", "model=unnormed", "trainer.max_epochs=2")
MEASURED = ("callbacks.equivariance_error.every_n_epochs=1",)
WINDOWS = (
    *("data=shared_windows", "model=rgcnn_smoke", "model.net.num_parameters=3000"),
    *("callbacks=smoke", "trainer.max_epochs=2", "callbacks.equivariance_error.num_samples=5"),
)
EXACT = 1e-5

pytestmark = pytest.mark.slow


def start(name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Run an entry point in a process of its own; kill all it started when it hangs."""
    environment = os.environ | {"PYTHONPATH": str(FAKES), "OMP_NUM_THREADS": "1"} | variables
    environment.pop("PL_GLOBAL_SEED", None)
    command = [sys.executable, f"src/{name}.py", f"--config-dir={FAKES / 'configs'}", *arguments]
    process = subprocess.Popen(
        [*command, "trainer.enable_progress_bar=false"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def train(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    place = f"hydra.run.dir={directory}"
    return start("train", "logger=csv", *arguments, place, **variables)


def trained(directory: Path, *arguments: str) -> Path:
    done = train(directory, *arguments)
    assert done.returncode == 0, done.stderr
    return directory


def rows(directory: Path) -> list[dict[str, float]]:
    """Logged values, without the one that is a time."""
    with (directory / "metrics.csv").open() as file:
        logged = [{n: float(v) for n, v in row.items() if v} for row in csv.DictReader(file)]
    return [{n: v for n, v in row.items() if n != "dynamics/step_time"} for row in logged]


def summary(directory: Path) -> dict:
    return json.loads((directory / "summary.json").read_text())


def assert_same_rows(one: Path, two: Path) -> None:
    assert len(rows(one)) == len(rows(two)) > 0
    for row, other in zip(rows(one), rows(two)):
        assert other == pytest.approx(row, rel=EXACT, abs=EXACT)


def assert_same_weights(one: Path, two: Path) -> None:
    states = [torch.load(d / "checkpoints/last.ckpt")["state_dict"] for d in (one, two)]
    assert states[0].keys() == states[1].keys()
    for name, weights in states[0].items():
        torch.testing.assert_close(states[1][name], weights, rtol=EXACT, atol=EXACT)


def files(directory: Path) -> set[str]:
    return {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return trained(folder / "two", *IMAGES, *MEASURED, "trainer=ddp_sim", "data.batch_size=8")


def test_two_processes_train_as_one_of_twice_the_batch(tmp_path, two_processes):
    """Data sets of 50, 21 and 31 samples: validation and test do not divide by two."""
    one = trained(tmp_path / "one", *IMAGES, *MEASURED, "trainer=cpu", "data.batch_size=16")
    assert_same_rows(one, two_processes)
    assert_same_weights(one, two_processes)
    assert summary(two_processes)["test"] == pytest.approx(summary(one)["test"], rel=EXACT)
    last = summary(two_processes)["last"]["metrics"]
    assert last["dynamics/equivariance_error"] > 1e-4, "else it is no test of this figure"
    assert files(two_processes) - files(one) == {"train_ddp_process_1.log"}
    assert (two_processes / "train_ddp_process_1.log").read_text() == ""


def test_forecasts_of_two_processes_are_those_of_one(tmp_path):
    two = trained(tmp_path / "two", *WINDOWS, "trainer=ddp_sim", "data.batch_size=2")
    one = trained(tmp_path / "one", *WINDOWS, "trainer=cpu", "data.batch_size=4")
    assert_same_rows(one, two)
    assert_same_weights(one, two)
    assert "test/domain/rmse/02" in summary(two)["test"]
    assert files(two) - files(one) == {"train_ddp_process_1.log"}


def test_three_processes_evaluate_digits_as_one(tmp_path):
    """1,000 images among three; the network has batch norm."""
    few = ("trainer.max_epochs=1", "trainer.limit_train_batches=3", "callbacks=minimal")
    run = trained(tmp_path / "run", "experiment=cnn_rotmnist", *few, "trainer=cpu")
    metrics = []
    for name, devices in (("cpu", 1), ("ddp_sim", 3)):
        done = start(
            *("eval", f"ckpt_path={run / 'checkpoints/best.ckpt'}", f"trainer={name}"),
            *(f"trainer.devices={devices}", f"hydra.run.dir={tmp_path / name}"),
        )
        assert done.returncode == 0, done.stderr
        metrics.append(summary(tmp_path / name)["metrics"])
    assert metrics[1] == pytest.approx(metrics[0], rel=EXACT)


@pytest.mark.parametrize("model", ["rgcnn", "e2cnn"])
def test_networks_with_batch_norm_train_in_two_processes(tmp_path, model):
    few = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1")
    small = ("callbacks.equivariance_error.num_samples=4", "data.batch_size=4")
    short = (*few, *small, "trainer.limit_test_batches=2")
    run = trained(tmp_path, f"experiment={model}_rotmnist", *short, "trainer=ddp_sim")
    assert summary(run)["status"] == "finished"
    assert summary(run)["start"]["dynamics/equivariance_error"] < EXACT


def test_a_multirun_of_several_processes_is_refused(tmp_path):
    done = start(
        *("train", "-m", *IMAGES, "callbacks=minimal", "logger=csv", "trainer=ddp_sim"),
        *("seed=0,1", f"hydra.sweep.dir={tmp_path}"),
    )
    assert done.returncode != 0
    assert "Use trainer.devices=1" in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("how", ["raise", "kill"])
def test_a_process_that_fails_ends_the_run(tmp_path, how):
    fails = ("callbacks=process_fails", f"callbacks.fails.how={how}", "trainer=ddp_sim")
    done = train(tmp_path, *IMAGES, *fails)
    assert done.returncode != 0
    assert ("this process fails" in done.stderr) == (how == "raise")
    assert not (tmp_path / "summary.json").exists() or summary(tmp_path)["status"] == "failed"


def test_a_killed_run_resumes_to_the_same_result(tmp_path):
    killed = ("callbacks=ended", "callbacks.ended.epoch=1", "trainer=ddp_sim", *IMAGES)
    whole = tmp_path / "whole"
    assert train(whole, *killed, SPARED="1").returncode == 0
    cut = tmp_path / "cut"
    assert train(cut, *killed).returncode != 0
    assert not (cut / "summary.json").exists()
    done = start("train", *killed, "logger=csv", f"resume={cut}", SPARED="1")
    assert done.returncode == 0, done.stderr
    assert rows(cut) == rows(whole)
    assert summary(cut)["test"] == summary(whole)["test"]


def test_a_drawn_seed_is_that_of_all_processes(tmp_path):
    arguments = (*IMAGES, "callbacks=minimal", "trainer=ddp_sim")
    drawn = trained(tmp_path / "drawn", *arguments, "seed=null")
    seed = summary(drawn)["seed"]
    assert rows(trained(tmp_path / "given", *arguments, f"seed={seed}")) == rows(drawn)
