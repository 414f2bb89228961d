import os
import pickle
import sys

import pytest
from omegaconf import OmegaConf

from src.sweeps.report import ROOT, SweepReport

ROWS = [(None, "local", None), ("2,3", "local", "2,3"), ("2,3", "slurm", "")]


@pytest.mark.parametrize(("visible", "executor", "expected"), ROWS)
def test_a_worker_has_the_project_its_command_and_gpus(monkeypatch, visible, executor, expected):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setattr(sys, "argv", ["src/train.py", "-m", "seed=0,1"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    report = SweepReport("now", ["seed"])
    hydra = {"overrides": {"task": ["seed=0,1"]}, "launcher": {"_target_": "a"}}
    hydra["sweeper"] = {"_target_": "a.OtherSweeper"}
    report.on_multirun_start(OmegaConf.create({"hydra": hydra}))
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/elsewhere"]
    sent = pickle.dumps(report)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", executor)
    OmegaConf.clear_resolver("job_folder")
    monkeypatch.setattr(sys, "argv", ["submitit/core/_submit.py", ".submitit/%j"])
    assert pickle.loads(sent).swept == ["seed"]
    assert OmegaConf.has_resolver("job_folder")
    assert sys.argv == ["src/train.py", "-m", "seed=0,1"]  # the command of the sweep
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == expected
