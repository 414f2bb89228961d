import csv

import pytest
import torch

from tests.conftest import QUIET, RunDirectory, in_a_process

IMAGES = ("train", "data=shared_images", "model=unnormed", "trainer.max_epochs=2", "logger=csv")
IMAGES += ("callbacks.equivariance_error.every_n_epochs=1",)
WINDOWS = ("train", "data=shared_windows", "model=rgcnn_smoke", "model.net.num_parameters=3000")
WINDOWS += ("logger=csv", "callbacks=smoke", "trainer.max_epochs=2")
WINDOWS += ("callbacks.equivariance_error.num_samples=5",)
EXACT = {"rel": 1e-5, "abs": 1e-5}
TWO = "trainer=ddp_sim"
pytestmark = pytest.mark.slow


def started(place, *arguments, **variables):
    done = in_a_process(*arguments, TWO, **variables)
    assert done.returncode == 0, done.stderr
    return RunDirectory(place)


def rows(run):
    """Logged values, without the one that is a time."""
    logged = csv.DictReader(run.metrics.splitlines())
    timed = "dynamics/step_time"
    return [{n: float(v) for n, v in row.items() if v and n != timed} for row in logged]


def assert_same(two, one):
    assert len(rows(one)) == len(rows(two)) > 0
    for row, other in zip(rows(one), rows(two)):
        assert other == pytest.approx(row, **EXACT)
    assert two.summary["test"] == pytest.approx(one.summary["test"], **EXACT)
    weights = (run.weights("last.ckpt") for run in (two, one))
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-5)
    files = [{str(p.relative_to(r.path)) for p in r.path.rglob("*")} for r in (two, one)]
    assert files[0] - files[1] == {"train_ddp_process_1.log"}
    assert (two / "train_ddp_process_1.log").read_text() == ""


def test_two_processes_train_and_evaluate_as_one(run_entry_point, tmp_path):
    """Validation and test, of 21 and 31 samples, do not divide by two processes or batches of 2.

    With a seed at which no gradient is near zero: Adam makes steps of the sign of rounding errors.
    """
    place = tmp_path / "two"
    two = started(place, *IMAGES, "seed=0", f"hydra.run.dir={place}")
    one = run_entry_point(*IMAGES, "trainer=cpu", "data.batch_size=16", "seed=0", QUIET)
    assert_same(two, one)
    last = two.summary["last"]["metrics"]
    assert last["dynamics/equivariance_error"] > 1e-4, "else it is no test of this figure"
    best = ("eval", f"ckpt_path={one / 'checkpoints/best.ckpt'}", "data.batch_size=2", "trust=true")
    place = tmp_path / "evaluated"
    metrics = started(place, *best, f"hydra.run.dir={place}").summary["metrics"]
    expected = run_entry_point(*best, "trainer=cpu").summary["metrics"]
    assert metrics == pytest.approx(expected, **EXACT)


@pytest.mark.parametrize("relaxation", ["filter_banks", "dual_ascent"])
def test_forecasts_of_two_processes_are_those_of_one(run_entry_point, tmp_path, relaxation):
    """And so are thetas and multipliers."""
    place, typed = tmp_path / "two", (*WINDOWS, f"relaxation={relaxation}")
    two = started(place, *typed, "data.batch_size=2", f"hydra.run.dir={place}")
    assert_same(two, run_entry_point(*typed, "trainer=cpu", "data.batch_size=4", QUIET))
    assert "test/domain/rmse/02" in two.summary["test"]
    learned = {"dynamics/theta", "dynamics/multiplier"} <= set(two.summary["last"]["metrics"])
    assert learned == (relaxation == "dual_ascent")


def test_a_killed_run_resumes_to_the_same_result(tmp_path_factory, tmp_path):
    """And processes with a drawn seed train as those that are given it."""
    place = tmp_path_factory.mktemp("two")
    two_processes = started(place, *IMAGES, "seed=null", f"hydra.run.dir={place}")
    ends = ("+callbacks.ended._target_=run_fakes.EndAt", "+callbacks.ended.epoch=1")
    ends += ("+callbacks.ended.rank=1", f"seed={two_processes.summary['seed']}")
    killed = in_a_process(*IMAGES, TWO, *ends, f"hydra.run.dir={tmp_path}")
    assert killed.returncode != 0
    run = RunDirectory(tmp_path)
    assert not (run / "summary.json").exists() or run.summary["status"] == "failed"
    started(tmp_path, *IMAGES, *ends, f"resume={tmp_path}", "trust=true", SPARED="1")
    assert rows(run) == rows(two_processes)
    assert run.summary["test"] == two_processes.summary["test"]


def test_a_process_that_fails_ends_the_run(tmp_path):
    """In the second epoch of a network with batch norm and non-trivial buffers."""
    ends = [f"callbacks.ended.{end}" for end in ("how=raise", "epoch=1", "hook=epoch_start")]
    ends += ["callbacks=ended", "callbacks.ended.rank=1", f"hydra.run.dir={tmp_path}"]
    done, run = in_a_process(*IMAGES[:-1], "model=e2cnn", *ends, TWO), RunDirectory(tmp_path)
    assert done.returncode != 0 and "no more" in done.stderr
    assert run.summary["status"] == "failed"
    assert {row["epoch"] for row in rows(run)} == {0}


def test_two_processes_score_reestimated_statistics_as_one_does(run_entry_point, tmp_path):
    """The best checkpoint, evaluated, has the scores that it was chosen for."""
    small = ("model=rgcnn", "model.net.num_parameters=null", "model.net.hidden_channels=[2,2]")
    small += ("model.net.num_layers=2", "model.net.pool_after=[1]", "callbacks=minimal")
    run = started(tmp_path, *IMAGES[:2], *small, *IMAGES[3:-1], f"hydra.run.dir={tmp_path}")
    evaluated = ("eval", f"ckpt_path={run / 'checkpoints/best.ckpt'}", "split=val", "trainer=cpu")
    best = run.summary["best"]["metrics"]
    metrics = run_entry_point(*evaluated, QUIET).summary["metrics"]
    assert "val/strict/acc" in metrics
    for name in ("val/acc", "val/loss"):
        value = metrics[name]
        assert best[f"{name}_reestimated"] == pytest.approx(value, **EXACT)
        assert best[name] != pytest.approx(value, **EXACT)
