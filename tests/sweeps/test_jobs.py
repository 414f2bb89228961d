import json
import logging
import math
import weakref

import pytest
from omegaconf import OmegaConf

from src.runs import building
from src.runs.resume import taken
from src.sweeps.jobs import run_job

SHORT = ("-m", "trainer.max_epochs=1")


@pytest.fixture
def sweep(train, tmp_path):
    """Start a sweep; returns the statuses of its jobs, by their numbers."""

    def start(*arguments):
        train(*SHORT, *arguments)
        return statuses(tmp_path)

    return start


def sweep_of(tmp_path):
    (folder,) = tmp_path.glob("train/multiruns/*")
    return folder


def statuses(tmp_path):
    entries = json.loads((sweep_of(tmp_path) / "sweep.json").read_text())["jobs"]
    assert [entry["job"] for entry in entries] == list(range(len(entries)))
    return [entry["status"] for entry in entries]


def job_of(tmp_path, start):
    (folder,) = sweep_of(tmp_path).glob(f"{start}-*")
    return folder


def test_a_job_outside_a_sweep_is_just_run():
    assert run_job(OmegaConf.create({}), lambda config: 3.0) == 3.0


def test_the_same_command_skips_what_is_finished(sweep, capsys):
    assert sweep("seed=0,1") == ["finished", "finished"]
    assert sweep("seed=0,1") == ["skipped", "skipped"]
    out = capsys.readouterr().out
    assert "0 finished, 2 skipped, 0 failed" in out
    assert "Skipped: finished already, in" in out


def test_a_sweep_may_be_extended(sweep):
    assert sweep("sweep.name=mine", "seed=0,1") == ["finished", "finished"]
    assert sweep("sweep.name=mine", "seed=1,2") == ["skipped", "finished"]
    widths = sweep("sweep.name=mine", "seed=1,2", "model.net.width=8,9")
    assert widths == ["skipped", "finished", "skipped", "finished"]


def test_a_sweeper_gets_the_value_of_a_skipped_job(sweep, tmp_path, monkeypatch):
    import src.train

    values = []
    monkeypatch.setattr(
        "src.sweeps.jobs.run_job",
        lambda config, train: values.append(run_job(config, train)) or values[-1],
    )
    assert src.train.main
    for _ in range(2):
        sweep("seed=0", "hydra.mode=MULTIRUN", "optimized_metric=test/acc")
    assert values[0] == values[1] > 0
    with pytest.raises(SystemExit):
        sweep("seed=0", "optimized_metric=val/none")
    assert math.isnan(values[2])
    kept = json.loads((job_of(tmp_path, "job") / "summary.json").read_text())
    assert kept["status"] == "finished"


def test_a_failed_job_is_run_again_from_its_last_checkpoint(sweep, tmp_path, monkeypatch, capsys):
    arguments = ("callbacks=ended", "callbacks.ended.how=raise", "trainer.max_epochs=3", "seed=0,1")
    with pytest.raises(SystemExit) as ended:
        sweep(*arguments)
    assert "2 of 2 jobs of the sweep are not finished" in str(ended.value.code)
    assert "seed=1" in ended.value.code
    assert "RuntimeError: no more" in ended.value.code
    assert statuses(tmp_path) == ["failed", "failed"]
    assert "Traceback" in (job_of(tmp_path, "seed-1") / "train.log").read_text()
    monkeypatch.setenv("SPARED", "1")
    assert sweep(*arguments) == ["finished", "finished"]
    assert capsys.readouterr().out.count("Continuing after epoch 2 of 3.") == 2
    assert (job_of(tmp_path, "seed-1") / "resumes.yaml").is_file()


def test_a_job_that_never_began_has_a_summary_too(sweep, tmp_path):
    with pytest.raises(SystemExit):
        sweep("seed=0,-1")
    assert statuses(tmp_path) == ["finished", "failed"]
    kept = json.loads((job_of(tmp_path, "seed-1") / "summary.json").read_text())
    assert kept["status"] == "failed"
    assert kept["error"].startswith("`seed` must be a whole number from 0")


def test_no_further_job_is_started_on_request(sweep, tmp_path):
    with pytest.raises(SystemExit) as ended:
        sweep("model.net.width=8,0,12", "sweep.fail_fast=true")
    assert statuses(tmp_path) == ["finished", "failed", "not started"]
    assert "2 of 3 jobs of the sweep are not finished" in ended.value.code
    with pytest.raises(SystemExit):
        sweep("model.net.width=8,0,12")
    assert statuses(tmp_path) == ["skipped", "failed", "finished"]


def test_finished_jobs_are_run_anew_on_request(sweep, tmp_path):
    sweep("seed=0")
    before = (job_of(tmp_path, "job") / "summary.json").read_text()
    assert sweep("seed=0", "sweep.rerun=true") == ["finished"]
    after = (job_of(tmp_path, "job") / "summary.json").read_text()
    assert before != after  # in wall_time_s
    (kept,) = tmp_path.glob("train/replaced/*/*/summary.json")
    assert kept.read_text() == before
    assert (kept.parent / "checkpoints" / "last.ckpt").is_file()


def test_a_drawn_seed_stays_that_of_the_job(sweep, tmp_path, monkeypatch):
    arguments = ("callbacks=ended", "callbacks.ended.how=raise", "trainer.max_epochs=3")
    with pytest.raises(SystemExit):
        sweep(*arguments, "seed=null")
    directory = job_of(tmp_path, "job")
    seed = OmegaConf.load(directory / "config.yaml").seed
    monkeypatch.setenv("SPARED", "1")
    sweep(*arguments, "seed=null")
    continued = OmegaConf.load(directory / "config_resumed.yaml")
    assert (continued.seed, continued.data.seed) == (seed, seed)


def test_a_job_that_another_process_runs_is_left_to_it(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr("src.runs.resume.LOCK_SECONDS", 0.1)
    sweep("seed=0,1")
    (job_of(tmp_path, "seed-1") / "summary.json").unlink()
    with taken(job_of(tmp_path, "seed-1")), pytest.raises(SystemExit) as ended:
        sweep("seed=0,1")
    assert statuses(tmp_path) == ["skipped", "running elsewhere"]
    assert "1 of 2 jobs of the sweep are not finished" in ended.value.code
    assert not (job_of(tmp_path, "seed-1") / "summary.json").exists()


def test_jobs_of_one_config_are_refused(sweep, tmp_path):
    with pytest.raises(SystemExit) as ended:
        sweep("model=tiny,twin,wider")
    assert statuses(tmp_path) == ["finished", "failed", "finished"]
    assert "got jobs 0 and 1" in ended.value.code


def test_several_devices_are_refused(sweep):
    with pytest.raises(SystemExit) as ended:
        sweep("seed=0,1", "trainer.devices=2")
    assert "A job of a sweep must train on one device; got trainer.devices=2" in ended.value.code


def test_other_code_is_told_of(sweep, tmp_path, caplog):
    sweep("seed=0")
    directory = job_of(tmp_path, "job")
    environment = json.loads((directory / "environment.json").read_text())
    if environment["git"]["commit"] is None:
        pytest.skip("git tells no commit here")
    environment["git"]["commit"] = "0123456789abcdef"
    (directory / "environment.json").write_text(json.dumps(environment))
    (directory / "summary.json").unlink()
    with caplog.at_level(logging.WARNING):
        sweep("seed=0")
    assert "started by commit 0123456789" in (directory / "train.log").read_text()


@pytest.mark.parametrize("ending", ["finished", "failed"])
def test_a_job_leaves_no_network_in_memory(sweep, monkeypatch, ending):
    built, alive = [], []
    original = building.build

    def noted(config, key, **arguments):
        if key == "data":
            alive.append([ref() is not None for ref in built])
        made = original(config, key, **arguments)
        if key in ("data", "model", "trainer"):
            built.append(weakref.ref(made))
        return made

    monkeypatch.setattr(building, "build", noted)
    if ending == "failed":
        arguments = ("callbacks=ended", "callbacks.ended.how=raise", "callbacks.ended.epoch=0")
        with pytest.raises(SystemExit):
            sweep("seed=0,1,2", *arguments)
    else:
        sweep("seed=0,1,2")
    assert alive == [[], [False] * 3, [False] * 6]
