import pytest

from src.runs.overrides import in_sweep
from src.sweeps.records import Job, read_records, records_folder


@pytest.fixture
def folder(tmp_path):
    return records_folder(tmp_path / "sweep", "now")


def job(folder, number, name="seed-0"):
    return Job(number, folder.parents[1] / name, folder, ("seed=0",))


def test_a_record_says_last_what_became_of_the_job(folder):
    assert read_records(folder) == []
    job(folder, 10).record("running")
    job(folder, 2, "seed-2").record("running")
    job(folder, 10).record("failed", "no more")
    first, last = read_records(folder)
    assert (first["job"], first["status"], first["error"]) == (2, "running", None)
    assert last == {
        "job": 10,
        "directory": "seed-0",
        "overrides": ["seed=0"],
        "status": "failed",
        "error": "no more",
    }


def test_of_jobs_with_one_directory_the_first_is_known(folder):
    for number, name in ((0, "seed-1"), (1, "seed-0"), (2, "seed-0")):
        job(folder, number, name).record("running")
    assert [job(folder, n).earlier_with_same_config() for n in (1, 2)] == [None, 1]


def test_a_stop_is_seen_by_all_jobs_of_this_start(folder):
    assert not job(folder, 0).is_stopped
    job(folder, 0).stop_further_jobs()
    assert job(folder, 5).is_stopped
    assert not job(records_folder(folder.parents[1], "later"), 5).is_stopped


def test_outside_hydra_there_is_no_sweep():
    assert not in_sweep()
