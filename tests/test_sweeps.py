from importlib.util import find_spec

import pytest

from tests.conftest import assert_same_result
from tests.helpers.processes import TRAINING, end, runs, start, statuses
from tests.helpers.wandb_files import read_parts

# Of its three jobs the second fails; the third is ended in its third epoch, unless it is spared.
SWEEP = ("-m", *TRAINING, "callbacks.ended.job=width-12", "model.net.width=8,0,12")
STATUSES = {8: "finished", 0: "failed", 12: "finished"}

pytestmark = pytest.mark.slow


def assert_same_results(folder, other):
    expected = runs(other)
    for width, run in runs(folder).items():
        if width == 0:
            assert run.summary["error"] == expected[width].summary["error"]
        else:
            assert_same_result(run, expected[width])


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """Folder of a sweep in which no job is ended."""
    folder = tmp_path_factory.mktemp("alone")
    console = end(start("train", folder, *SWEEP, SPARED="1"), folder, code=1)
    failed = "This job failed: model.net: `width` must be positive; got 0. Use 8."
    for words in ("2 finished, 0 skipped, 1 failed", "1 of 3 jobs of the sweep are not", failed):
        assert words in console
    assert "Traceback" in runs(folder)[0].log
    assert statuses(folder) == STATUSES
    return folder


def test_a_killed_sweep_goes_on_to_the_same_results(left_alone, tmp_path):
    end(start("train", tmp_path, *SWEEP), tmp_path, code=-9)
    found = runs(tmp_path)
    assert found.keys() == {8, 0}
    written = (found[8] / "summary.json").stat().st_mtime_ns
    console = end(start("train", tmp_path, *SWEEP, SPARED="1"), tmp_path, code=1)
    assert "Continuing after epoch 2 of 3." in console
    assert "1 finished, 1 skipped, 1 failed" in console
    assert (found[8] / "summary.json").stat().st_mtime_ns == written
    assert statuses(tmp_path) == {**STATUSES, 8: "skipped"}
    assert_same_results(tmp_path, left_alone)


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_killed_job_is_a_failed_one_and_the_same_command_goes_on(left_alone, tmp_path, launcher):
    typed = (*SWEEP, "model.net.width=12,8", f"launcher={launcher}")
    console = end(start("train", tmp_path, *typed), tmp_path, code=1)
    assert statuses(tmp_path) == {12: "failed", 8: "finished"}
    assert "1 of 2 jobs of the sweep are not finished:\n  job 0, " in console
    assert ": failed: The process of the job was killed.\n" in console
    assert "Traceback" not in console
    console = end(start("train", tmp_path, *typed, SPARED="1"), tmp_path)
    assert "Skipped: finished already, 1 of 2 jobs." in console
    assert "Continuing after epoch 2 of 3." in runs(tmp_path)[12].log
    assert statuses(tmp_path) == {12: "finished", 8: "skipped"}
    assert_same_results(tmp_path, left_alone)


@pytest.mark.parametrize("launcher", ["joblib", "ray"])
def test_other_launchers_give_the_same_numbers(left_alone, tmp_path, launcher):
    if find_spec("hydra_plugins.hydra_ray_launcher") is None and launcher == "ray":
        pytest.skip("pip install hydra-ray-launcher: too big for `dev`")
    typed = [*SWEEP, "model.net.width=choice(0,12)", f"launcher={launcher}"]
    typed += ["data.num_workers=1"] if launcher == "joblib" else []
    console = end(start("train", tmp_path, *typed, SPARED="1"), tmp_path, code=1)
    assert "1 of 2 jobs of the sweep are not" in console
    assert statuses(tmp_path) == {width: STATUSES[width] for width in (0, 12)}
    assert_same_results(tmp_path, left_alone)


def test_a_requeued_job_gives_the_same_numbers_and_is_one_run_on_wandb(left_alone, tmp_path):
    """Under submitit, which signals the job when its time is up, and starts it again."""
    typed = (*SWEEP, "model.net.width=choice(12)", "launcher=submitit_local", "logger=wandb")
    preempted = "callbacks.ended.how=preempt"
    end(start("train", tmp_path, *typed, preempted, WANDB_MODE="offline"), tmp_path)
    assert statuses(tmp_path) == {12: "finished"}
    assert_same_results(tmp_path, left_alone)
    run = runs(tmp_path)[12]
    assert "Continuing after epoch 2 of 3." in run.log
    parts = read_parts(run.path)
    assert len(parts) == 2 and len({part.run.run_id for part in parts}) == 1
    assert {part.run.run_group for part in parts} == {run.path.parent.name}
