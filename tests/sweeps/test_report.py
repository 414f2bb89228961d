import json
import logging
import os
import pickle

import pytest
from omegaconf import OmegaConf

from src.sweeps.records import Job, records_folder
from src.sweeps.report import ROOT, SweepReport


@pytest.fixture
def ended(tmp_path, caplog):
    """Report jobs of some statuses; returns the jobs in sweep.json and the log."""

    def report(*statuses):
        folder = records_folder(tmp_path, "now")
        for number, status in enumerate(statuses):
            error = "`width` must be positive" if status == "failed" else None
            Job(number, tmp_path / f"seed-{number}", folder, (f"seed={number}",)).record(
                status, error
            )
        hydra = {"sweep": {"dir": str(tmp_path)}, "overrides": {"task": ["seed=0,1"]}}
        with caplog.at_level(logging.INFO):
            SweepReport("now", ["seed"]).on_multirun_end(OmegaConf.create({"hydra": hydra}))

    report.written = lambda: json.loads((tmp_path / "sweep.json").read_text())
    return report


def test_a_sweep_that_is_done(ended, tmp_path, caplog):
    ended("finished", "skipped", "finished")
    assert f"Sweep: 2 finished, 1 skipped, 0 failed. Folder: {tmp_path}" in caplog.text
    written = ended.written()
    assert written["overrides"] == ["seed=0,1"]
    assert [job["status"] for job in written["jobs"]] == ["finished", "skipped", "finished"]
    assert {path.name for path in tmp_path.iterdir()} == {"sweep.json"}


def test_a_sweep_with_jobs_that_are_not(ended, caplog):
    with pytest.raises(SystemExit) as exit_:
        ended("finished", "failed", "running", "running elsewhere", "not started")
    message = exit_.value.code
    assert message.startswith("4 of 5 jobs of the sweep are not finished:")
    assert "job 1, seed=1: failed: `width` must be positive" in message
    assert "job 2, seed=2: failed: The process of the job was killed." in message
    assert "job 3, seed=3: running elsewhere\n" in message
    assert "1 finished, 0 skipped, 2 failed, 1 running elsewhere, 1 not started" in caplog.text
    assert ended.written()["jobs"][2]["status"] == "failed"


def test_workers_can_import_the_project(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    hydra = {"overrides": {"task": ["seed=0,1"]}, "launcher": {"_target_": "a"}}
    SweepReport("now", []).on_multirun_start(OmegaConf.create({"hydra": hydra}))
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/elsewhere"]


@pytest.mark.parametrize("visible", [None, "2,3"])
@pytest.mark.parametrize("executor", ["local", "slurm"])
def test_gpus_hidden_by_a_local_executor_are_seen_again(monkeypatch, visible, executor):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    sent = pickle.dumps(SweepReport("now", ["seed"]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", executor)
    OmegaConf.clear_resolver("job_folder")
    received = pickle.loads(sent)
    assert received.swept == ["seed"]
    assert OmegaConf.has_resolver("job_folder")
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == (visible if executor == "local" else "")
