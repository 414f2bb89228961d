import json

from report_fakes import write_run, write_sweep

from src.reports.reading import read_all, read_run
from src.reports.unfinished import find_unfinished, repetition


def test_what_did_not_finish_is_listed_with_a_command(tmp_path):
    sweep = write_sweep(tmp_path / "sweep")
    entries = failed, killed, unborn = find_unfinished(read_all([sweep]))
    found = [(entry.directory.name, entry.status) for entry in entries]
    assert found == [("GCNN-3", "failed"), ("GCNN-4", "killed"), ("GCNN-5", "not started")]
    assert failed.error == "<script>alert('&')</script> is no number"
    assert failed.command == "python src/train.py -m model=CNN,GCNN seed=3"
    assert killed.command == f"python src/train.py resume={killed.directory}"
    assert unborn.overrides == "model=GCNN seed=5"
    assert unborn.command == "python src/train.py -m model=CNN,GCNN 'seed=range(6)'"


def test_a_run_of_no_sweep_is_repeated(tmp_path):
    directory = write_run(tmp_path / "run", status="failed", error="why")
    (entry,) = find_unfinished(read_all([directory]))
    assert entry.command == "python src/train.py model=CNN seed=0"
    assert repetition(read_run(directory)) == entry.command


def test_a_job_without_its_directory_or_a_config_is_listed(tmp_path):
    job = {"job": 0, "directory": "gone", "overrides": [], "status": "finished", "error": None}
    record = {"started": "now", "overrides": ["seed=0,1"], "jobs": [job]}
    (tmp_path / "sweep.json").write_text(json.dumps(record))
    (entry,) = find_unfinished(read_all([tmp_path]))
    assert (entry.directory.name, entry.status) == ("gone", "missing")

    # it failed before it had a config
    (tmp_path / "sweep.json").unlink()
    (tmp_path / "summary.json").write_text('{"status": "failed", "error": "no such model"}')
    (entry,) = find_unfinished(read_all([tmp_path]))
    assert (entry.status, entry.error) == ("failed", "no such model")
