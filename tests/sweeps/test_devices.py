import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.errors import UserError
from src.sweeps.devices import (
    check_one_device,
    jobs_at_once,
    least_used_device,
    lock_folder,
    own_device,
    threads_per_job,
)

ROOT = Path(__file__).resolve().parents[2]


def config(devices=1, accelerator="auto", spread=True, **trainer):
    return OmegaConf.create(
        {
            "trainer": {"devices": devices, "accelerator": accelerator, **trainer},
            "sweep": {"spread_jobs": spread},
        }
    )


def test_jobs_fill_devices_evenly_and_take_what_is_freed(tmp_path):
    with ExitStack() as jobs:
        held = [jobs.enter_context(least_used_device(3, tmp_path)) for _ in range(3)]
        assert held == [0, 1, 2]
        with least_used_device(3, tmp_path) as fourth, least_used_device(3, tmp_path) as fifth:
            assert (fourth, fifth) == (0, 1)
    with least_used_device(3, tmp_path) as next_one:
        assert next_one == 0


def test_a_killed_job_frees_its_device(tmp_path):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from src.sweeps.devices import least_used_device\n"
        "with least_used_device(2, Path(sys.argv[1])) as device: print(device); os.abort()"
    )
    command = [sys.executable, "-u", "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout == "0\n"
    with least_used_device(2, tmp_path) as device:
        assert device == 0


def test_each_job_gets_a_device_of_its_own(tmp_path):
    first, second = config(), config("1", "gpu")
    with own_device(first, 2, tmp_path), own_device(second, 2, tmp_path):
        assert (first.trainer.devices, second.trainer.devices) == ([0], [1])


@pytest.mark.parametrize(
    ("job", "num_devices"),
    [
        (config(), 1),
        (config(), 0),
        (config(devices=[1]), 2),
        (config(accelerator="cpu"), 2),
        (config(spread=False), 2),
    ],
)
def test_devices_that_were_asked_for_are_left(tmp_path, job, num_devices):
    before = job.copy()
    with own_device(job, num_devices, tmp_path):
        assert job == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("job", "num_devices"),
    [
        (config(2), 2),
        (config([0, 1]), 2),
        (config("auto"), 2),
        (config(-1), 2),
        (config(2, "cpu"), 0),
        (config(num_nodes=2), 1),
    ],
)
def test_several_devices_are_refused(job, num_devices):
    with pytest.raises(UserError, match="A job of a sweep must train on one device; got"):
        check_one_device(job, num_devices)


@pytest.mark.parametrize("job", [config(), config([1]), config("auto", "cpu"), config("1")])
def test_one_device_is_not_refused(job):
    check_one_device(job, 2)


def test_devices_of_other_masks_have_other_locks(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    first = lock_folder()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert lock_folder() != first
    assert lock_folder().name.endswith("2-3")


@pytest.mark.parametrize(
    ("launcher", "jobs"),
    [
        ({"_target_": "a.JoblibLauncher", "n_jobs": 3}, 3),
        ({"_target_": "a.JoblibLauncher", "n_jobs": -1}, 8),
        ({"_target_": "a.LocalLauncher"}, 4),
        ({"_target_": "a.SlurmLauncher"}, 1),
        ({"_target_": "a.BasicLauncher"}, 1),
    ],
)
def test_jobs_of_one_machine_at_once(launcher, jobs):
    hydra = OmegaConf.create({"launcher": launcher, "sweeper": {"max_batch_size": 4}})
    assert jobs_at_once(hydra, 8) == jobs


def test_jobs_share_the_cores():
    assert [threads_per_job(8, jobs) for jobs in (1, 3, 8, 20)] == [8, 2, 1, 1]
