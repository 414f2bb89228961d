"""Which directories hold runs, and damaged ones."""

import json

import pytest
from report_fakes import write_run, write_sweep

from src.errors import UserError
from src.reports.jobs import unfinished
from src.reports.reading import read_all


def test_runs_are_found_at_any_depth_and_once(tmp_path):
    first = write_run(tmp_path / "one" / "two" / "first")
    second = write_run(tmp_path / "second")
    # below a run, hidden, or replaced: these are no runs of their own
    write_run(first / "wandb" / "files")
    write_run(tmp_path / ".jobs" / "x")
    write_run(tmp_path / "replaced" / "x")
    (tmp_path / "again").symlink_to(tmp_path / "one")
    found = read_all([tmp_path, second, tmp_path / "one"])
    assert {run.directory.resolve() for run in found.runs} == {first.resolve(), second}
    assert len(found.runs) == 2


def test_curves_are_by_epochs_trained(tmp_path):
    (run,) = read_all([write_run(tmp_path / "run")]).runs
    assert run.curve("dynamics/relaxed_weight_error") == {0: 0.0, 1: 0.1, 2: 0.2}
    assert run.curve("val/acc") == {1: 0.25, 2: 0.5}


@pytest.mark.parametrize(
    "name, text",
    [
        ("summary.json", '{"status": "fin'),
        ("summary.json", "[1]"),
        ("summary.json", '{"status": "finished", "seed": null}'),
        ("config.yaml", "a: [1"),
        ("config.yaml", "seed"),
        ("metrics.csv", "epoch,step,val/acc\n0,1,abc\n"),
        ("overrides.yaml", "3"),
        ("environment.json", "\x00"),
        ("checkpoints/measures.json", '{"best.ckpt": {"measures": {"hessian": {"values": {}}}}}'),
    ],
)
def test_damaged_runs_are_listed_and_the_others_read(tmp_path, name, text):
    damaged = write_run(tmp_path / "damaged", seed=1)
    (damaged / "checkpoints").mkdir()
    (damaged / name).write_text(text)
    if "null" in text:
        (damaged / "config.yaml").write_text("task_name: train\n")
    write_run(tmp_path / "sound")
    found = read_all([tmp_path])
    assert [run.directory.name for run in found.runs] == ["sound"]
    assert [entry.directory for entry in found.damaged] == [damaged]
    (entry,) = unfinished(found)
    assert entry.status == "damaged" and entry.error


def test_folders_that_cannot_be_reported_are_refused(tmp_path):
    with pytest.raises(UserError, match="must be a directory of a run or a sweep; got"):
        read_all([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="There must be a run below one of the directories"):
        read_all([tmp_path])


def test_what_did_not_finish_is_told_with_a_command(tmp_path):
    sweep = write_sweep(tmp_path / "sweep")
    failed, killed, unborn = unfinished(read_all([sweep]))
    assert (failed.directory.name, failed.status) == ("GCNN-3", "failed")
    assert failed.error == "<script>alert('&')</script> is no number"
    assert failed.command == "python src/train.py -m model=CNN,GCNN seed=3"
    assert (killed.directory.name, killed.status) == ("GCNN-4", "killed")
    assert killed.command == f"python src/train.py resume={killed.directory}"
    assert (unborn.directory.name, unborn.status) == ("GCNN-5", "not started")
    assert unborn.what == "model=GCNN seed=5"
    assert unborn.command == "python src/train.py -m model=CNN,GCNN 'seed=range(6)'"


def test_a_job_whose_finished_directory_is_gone_is_missing(tmp_path):
    job = {"job": 0, "directory": "gone", "overrides": [], "status": "finished", "error": None}
    record = {"started": "now", "overrides": ["seed=0,1"], "jobs": [job]}
    (tmp_path / "sweep.json").write_text(json.dumps(record))
    (entry,) = unfinished(read_all([tmp_path]))
    assert (entry.directory.name, entry.status) == ("gone", "missing")


def test_a_job_that_failed_before_it_had_a_config_is_told(tmp_path):
    job = tmp_path / "job"
    job.mkdir()
    (job / "summary.json").write_text('{"status": "failed", "error": "no such model"}')
    (entry,) = unfinished(read_all([tmp_path]))
    assert (entry.status, entry.error) == ("failed", "no such model")
