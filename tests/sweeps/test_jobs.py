import json
import math
import weakref

import pytest
from omegaconf import OmegaConf

from src.runs import building
from src.runs.resume import taken
from src.sweeps import jobs
from tests.conftest import RunDirectory

pytestmark = pytest.mark.slow


@pytest.fixture
def sweep(train, tmp_path):
    """Start a sweep; returns the statuses of its jobs, and what the process ended with."""

    def start(*arguments):
        message = None
        try:
            train("-m", "trainer.max_epochs=1", *arguments)
        except SystemExit as ended:
            message = ended.code
        reports = tmp_path.glob("train/multiruns/*/sweep.json")
        path = max(reports, key=lambda path: path.stat().st_mtime_ns)
        entries = enumerate(json.loads(path.read_text())["jobs"])
        return [entry["status"] for number, entry in entries if entry["job"] == number], message

    return start


@pytest.fixture
def job_of(tmp_path):
    return lambda name: RunDirectory(next(tmp_path.glob(f"train/multiruns/*/{name}-*")))


def test_what_is_finished_or_run_elsewhere_is_skipped(sweep, job_of, capsys, monkeypatch):
    numbers = []
    monkeypatch.setattr(jobs, "spread", lambda config, number: numbers.append(number))
    assert sweep("sweep.name=mine", "seed=0,1") == (["finished", "finished"], None)
    assert sweep("sweep.name=mine", "seed=0,2") == (["skipped", "finished"], None)
    out = capsys.readouterr().out
    assert (
        "1 finished, 1 skipped, 0 failed" in out and "Skipped: finished already, 1 of 2 jobs" in out
    )
    assert numbers == [0, 1, 1]
    monkeypatch.setattr("src.locks.LOCK_SECONDS", 0.1)
    run = job_of("seed-1")
    (run / "summary.json").unlink()
    with taken(run.path):
        statuses, message = sweep("sweep.name=mine", "seed=0,1")
    assert statuses == ["skipped", "running elsewhere"]
    assert "1 of 2 jobs of the sweep are not finished" in message
    assert not (run / "summary.json").exists()


def test_a_sweeper_gets_the_value_of_a_skipped_job(sweep, job_of, monkeypatch):
    monkeypatch.setattr(
        "src.sweeps.sweeper.use_own_sweeper", lambda config: None
    )  # as if it were another
    values, original = [], jobs.run_job
    monkeypatch.setattr(jobs, "run_job", lambda *a: values.append(original(*a)) or values[-1])
    for _ in range(2):
        sweep("seed=0", "optimized_metric=test/acc")
    assert values[0] == values[1] > 0
    assert sweep("seed=0", "optimized_metric=val/none")[0] == ["failed"]
    assert math.isnan(values[2])
    assert job_of("job").summary["status"] == "finished"  # the network is trained


def test_a_failed_job_is_continued_and_on_request_run_anew(sweep, job_of, tmp_path, monkeypatch):
    ends = ("callbacks=ended", "callbacks.ended.how=raise", "trainer.max_epochs=3", "seed=null")
    statuses, message = sweep(*ends)
    assert statuses == ["failed"]
    for words in ("1 of 1 jobs of", "seed=null", ": failed: RuntimeError: no more"):
        assert words in message
    run = job_of("job")
    assert "Traceback" in run.log
    seed = run.config["seed"]
    monkeypatch.setenv("SPARED", "1")
    assert sweep(*ends) == (["finished"], None)
    assert "Continuing after epoch 2 of 3." in run.log
    continued = OmegaConf.load(run / "config_resumed.yaml")
    assert (continued.seed, continued.data.seed) == (seed, seed)  # as drawn at first
    before = run.summary
    assert sweep(*ends, "sweep.rerun=true") == (["finished"], None)
    assert not (run / "resumes.yaml").exists()
    (kept,) = tmp_path.glob("train/replaced/*/*/summary.json")
    assert json.loads(kept.read_text()) == before != run.summary
    assert (kept.parent / "checkpoints" / "last.ckpt").is_file()


def test_no_further_job_is_started_on_request_and_bad_ones_are_refused(sweep, job_of):
    seeds = "seed=0,-1,2"
    statuses, message = sweep(seeds, "sweep.fail_fast=true")
    assert statuses == ["finished", "failed", "not started"]
    assert "2 of 3 jobs of the sweep are not finished" in message
    kept = job_of("seed-1").summary  # also of a run that never began
    assert (kept["status"], kept["error"][:14]) == ("failed", "`seed` must be")
    assert sweep(seeds)[0] == ["skipped", "failed", "finished"]
    statuses, message = sweep("seed=0", "trainer=ddp_sim")
    assert statuses == ["failed"] and "on one device; got trainer.devices=2" in message


def test_a_job_of_a_search_file_leaves_no_network_in_memory(sweep, tmp_path, monkeypatch):
    built, alive, original = [], [], building.build

    def noted(config, key, **arguments):
        if key == "data":
            alive.append([ref() is not None for ref in built])
        made = original(config, key, **arguments)
        if key in ("data", "model", "trainer"):
            built.append(weakref.ref(made))
        return made

    monkeypatch.setattr(building, "build", noted)
    ends = ("callbacks=ended", "callbacks.ended.job=lr-0.003", "callbacks.ended.how=raise")
    statuses, _ = sweep("hparams_search=learning_rate", *ends, "callbacks.ended.epoch=0")
    assert statuses == ["finished", "failed", "finished", "finished"]
    assert alive == [[False] * 3 * number for number in range(4)]
    configs = map(OmegaConf.load, tmp_path.glob("train/multiruns/*/*/config.yaml"))
    assert sorted(c.model.optimizer.lr for c in configs) == [0.001, 0.003, 0.01, 0.03]
