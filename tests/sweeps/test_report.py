import json
import logging
import os
import pickle

import pytest
from omegaconf import OmegaConf

from src.files import RECORDS
from src.sweeps.report import ROOT, Job, SweepReport, read_records


def test_the_report_says_what_is_done_and_what_is_not(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = tmp_path / RECORDS / "now"
    hydra = {"sweep": {"dir": str(tmp_path)}, "overrides": {"task": ["seed=0,1"]}}

    def end(*statuses):
        for number, status in enumerate(statuses):
            error = "`width` must be positive" if status == "failed" else None
            job = Job(number, tmp_path / f"seed-{number}", folder, (f"seed={number}",))
            job.record("running")
            job.record(status, error)
        assert len(read_records(folder)) == len(statuses)
        SweepReport("now", ["seed"]).on_multirun_end(OmegaConf.create({"hydra": hydra}))
        return json.loads((tmp_path / "sweep.json").read_text())

    assert read_records(folder) == []
    written = end(*["finished"] * 10, "skipped")
    assert f"Sweep: 10 finished, 1 skipped, 0 failed. Folder: {tmp_path}" in caplog.text
    assert f"Report: python src/report.py {tmp_path}\n" in caplog.text
    assert written["overrides"] == ["seed=0,1"]
    assert list(written["jobs"][10].values()) == [10, "seed-10", ["seed=10"], "skipped", None]
    assert {path.name for path in tmp_path.iterdir()} == {"sweep.json"}
    with pytest.raises(SystemExit) as ended:
        end("finished", "failed", "running", "running elsewhere", "not started")
    for words in (
        *("4 of 5 jobs of the sweep are not", "job 1, seed=1: failed: `width` must be positive"),
        "job 2, seed=2: failed: The process of the job was killed.",
        "job 3, seed=3: running elsewhere\n",
    ):
        assert words in ended.value.code
    assert "1 finished, 0 skipped, 2 failed, 1 running elsewhere, 1 not started" in caplog.text
    assert json.loads((tmp_path / "sweep.json").read_text())["jobs"][2]["status"] == "failed"


ROWS = [(None, "local", None), ("2,3", "local", "2,3"), ("2,3", "slurm", "")]


@pytest.mark.parametrize(("visible", "executor", "expected"), ROWS)
def test_a_worker_imports_the_project_and_sees_gpus(monkeypatch, visible, executor, expected):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    report = SweepReport("now", ["seed"])
    hydra = {"overrides": {"task": ["seed=0,1"]}, "launcher": {"_target_": "a"}}
    report.on_multirun_start(OmegaConf.create({"hydra": hydra}))
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/elsewhere"]
    sent = pickle.dumps(report)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", executor)
    OmegaConf.clear_resolver("job_folder")
    assert pickle.loads(sent).swept == ["seed"]
    assert OmegaConf.has_resolver("job_folder")
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == expected
