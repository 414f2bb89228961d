import json
import logging

import pytest
from omegaconf import OmegaConf

from src.files import LOCK, RECORDS
from src.locks import file_lock
from src.sweeps.records import Job, read_records, record_plan, records_folder, write_report

REPORT = {"report": {"started": "now"}}


@pytest.fixture
def config(tmp_path):
    hydra = {"sweep": {"dir": str(tmp_path)}, "overrides": {"task": ["seed=0,1"]}}
    return OmegaConf.create({"hydra": hydra | {"callbacks": REPORT}})


@pytest.fixture
def jobs(tmp_path, config):
    """Jobs of a sweep, by number."""
    records = records_folder(config.hydra)
    return lambda n: [Job(i, tmp_path / f"seed-{i}", records, (f"seed={i}",)) for i in range(n)]


def test_the_report_says_what_is_done_and_what_is_not(tmp_path, config, jobs, caplog):
    caplog.set_level(logging.INFO)

    def end(*statuses):
        for job, status in zip(jobs(len(statuses)), statuses):
            job.record("running")
            job.record(status, "`width` must be positive" if status == "failed" else None)
        message = write_report(config)
        return json.loads((tmp_path / "sweep.json").read_text()), message

    assert read_records(tmp_path / RECORDS) == []
    written, message = end(*["finished"] * 10, "skipped")
    assert f"Sweep: 10 finished, 1 skipped, 0 failed. Folder: {tmp_path}" in caplog.text
    assert f"Report: python src/report.py {tmp_path}\n" in caplog.text
    assert (written["overrides"], message) == (["seed=0,1"], None)
    assert list(written["jobs"][10].values()) == [10, "seed-10", ["seed=10"], "skipped", None]
    assert {path.name for path in tmp_path.iterdir()} == {"sweep.json"}
    (tmp_path / "seed-5").mkdir()
    with file_lock(tmp_path / "seed-5" / LOCK):  # a job that goes on, as under SLURM after Ctrl-C
        statuses = ("running", "running elsewhere", "not started", "running")
        written, message = end("finished", "failed", *statuses)
    for words in (
        *("5 of 6 jobs of the sweep are not", "job 1, seed=1: failed: `width` must be positive"),
        "job 2, seed=2: failed: The process of the job was killed.",
        *("job 3, seed=3: running elsewhere\n", "job 5, seed=5: running\n"),
    ):
        assert words in message
    assert "1 finished, 0 skipped, 2 failed, 1 running elsewhere, 1 not started" in caplog.text
    assert written["jobs"][2]["status"] == "failed"


def test_the_plan_numbers_the_jobs_and_each_says_what_becomes_of_it(jobs):
    planned = jobs(4)
    record_plan(planned[:2], planned[:1])
    record_plan(planned[2:], [])
    assert planned[2].recorded()["status"] == "not started"
    renumbered = Job(0, planned[2].directory, planned[2].records, planned[2].overrides)
    renumbered.record("finished")  # as an array of SLURM counts its jobs
    entries = read_records(planned[0].records)
    assert [entry["job"] for entry in entries] == [0, 1, 2, 3]
    statuses = ["skipped", "not started", "finished", "not started"]
    assert [entry["status"] for entry in entries] == statuses
