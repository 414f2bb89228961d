from contextlib import nullcontext

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from src.errors import UserError
from src.sweeps import devices
from src.sweeps.devices import (
    check_one_device,
    jobs_at_once,
    share_cores,
    spread,
    start_workers_as_usual,
)


def config(devices=1, accelerator="auto", spread_jobs=True, **trainer):
    trainer = {"devices": devices, "accelerator": accelerator, **trainer}
    return OmegaConf.create({"trainer": trainer, "sweep": {"spread_jobs": spread_jobs}})


def test_job_n_takes_gpu_n_modulo_their_number_where_any_will_do(monkeypatch):
    for job, gpus, taken in (
        *((job, 3, [[0], [1], [2], [0], [1]]) for job in (config(), config("1", "gpu"))),
        *((config(), number, [1] * 5) for number in (0, 1)),
        (config(devices=[1]), 2, [[1]] * 5),  # what was asked for is left
        *((job, 2, [1] * 5) for job in (config(accelerator="cpu"), config(spread_jobs=False))),
    ):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        jobs = [job.copy() for _ in taken]
        for number, own in enumerate(jobs):
            spread(own, number)
        assert [own.trainer.devices for own in jobs] == taken


def test_several_devices_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    message = "A job of a sweep must train on one device; got"
    several = (config(2), config([0, 1]), config("auto"), config(-1), config(2, "cpu"))
    one = (config(), config([1]), config("auto", "cpu"), config("1"))
    for job in (*several, config(num_nodes=2), *one):
        with nullcontext() if job in one else pytest.raises(UserError, match=message):
            check_one_device(job)


def test_jobs_of_one_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda process: range(8))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    for name, number, jobs, threads in (
        *(("Joblib", 3, 3, [2]), ("Joblib", -1, 8, [1]), ("Local", None, 4, [2])),
        *(("Slurm", None, 1, []), ("Basic", None, 1, [])),
    ):
        launcher = {"_target_": f"a.{name}Launcher"} | ({"n_jobs": number} if number else {})
        hydra = OmegaConf.create({"launcher": launcher, "sweeper": {"max_batch_size": 4}})
        assert jobs_at_once(hydra, 8) == jobs
        chosen = []
        monkeypatch.setattr(HydraConfig, "get", lambda hydra=hydra: hydra)
        monkeypatch.setattr(torch, "set_num_threads", chosen.append)
        share_cores()
        assert chosen == threads


def test_data_loaders_start_their_workers_as_on_this_system(monkeypatch):
    chosen = []
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["fork", "spawn"])
    monkeypatch.setattr("multiprocessing.set_start_method", lambda m, force: chosen.append(m))
    for method, expected in (("fork", []), ("spawn", []), ("loky", ["fork"])):
        monkeypatch.setattr("multiprocessing.get_start_method", lambda method=method: method)
        start_workers_as_usual()
        assert chosen == expected
