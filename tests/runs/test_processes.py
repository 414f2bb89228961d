import copy
import logging
import subprocess
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from omegaconf import OmegaConf
from torch import nn

from src.errors import UserError
from src.models.components.gcnn import GroupBatchNorm
from src.runs import processes
from src.runs.processes import check_processes, ending_processes, quiet_other_processes

PLACE = ["hydra.run.dir=a"]


@pytest.mark.parametrize(
    ("place", "config", "message"),
    [
        ([], {"seed": 0}, "`hydra.run.dir` must be given where srun or torchrun starts"),
        (PLACE, {"seed": None}, "`seed` must be given where srun or torchrun"),
        (PLACE, {"seed": 0}, None),
        (PLACE, {"seed": None, "ckpt_path": "a.ckpt"}, None),  # has a seed
        ([], {"seed": None, "resume": "a"}, None),
    ],
)
def test_processes_started_side_by_side_must_agree(monkeypatch, place, config, message):
    own = SimpleNamespace(overrides=SimpleNamespace(hydra=place))
    hydra = SimpleNamespace(initialized=lambda: True, get=lambda: own)
    monkeypatch.setattr(processes, "HydraConfig", hydra)
    monkeypatch.setattr(processes, "in_sweep", lambda: False)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    check_processes(OmegaConf.create(config))  # alone
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(UserError, match=message) if message else nullcontext():
        check_processes(OmegaConf.create(config))


class Child:
    def __init__(self, status, hangs=False):
        self.status, self.hangs, self.returncode = status, hangs, None

    def wait(self, timeout=None):
        if self.hangs and timeout is not None:
            raise subprocess.TimeoutExpired("child", timeout)
        self.returncode = self.status

    def kill(self):
        self.status = -9


def starting_trainer(*children, num_nodes=1):
    launcher = object.__new__(_SubprocessScriptLauncher)
    launcher.procs = list(children)
    strategy = SimpleNamespace(launcher=launcher)
    return SimpleNamespace(strategy=strategy, num_nodes=num_nodes, num_devices=2, callbacks=[])


@pytest.mark.parametrize(("hangs", "status"), [(False, 0), (False, 1), (True, -9)])
def test_processes_are_waited_for_and_killed_when_they_hang_or_the_run_fails(hangs, status):
    child = Child(status, hangs)
    failed = pytest.raises(RuntimeError, match=rf"ended with the statuses \[{status}\]")
    with failed if status else nullcontext(), ending_processes(starting_trainer(child)):
        assert child.returncode is None
    assert child.returncode == status
    trainer = starting_trainer(child := Child(0, hangs=True))
    with pytest.raises(KeyError), ending_processes(trainer):
        raise KeyError
    assert child.returncode == -9
    assert trainer.strategy.launcher.procs == [], "Lightning kills the run for one that failed"


def test_processes_that_cannot_be_started_are_refused(monkeypatch):
    for num_nodes, in_sweep, message in (
        (2, False, r"srun or torchrun must start .* trainer\.num_nodes=2"),
        (1, True, r"run the whole multirun again; got 2 devices\. Use"),
    ):
        monkeypatch.setattr(processes, "in_sweep", lambda in_sweep=in_sweep: in_sweep)
        started = starting_trainer(num_nodes=num_nodes)
        with pytest.raises(UserError, match=message), ending_processes(started):
            pytest.fail("it was started")
        none = SimpleNamespace(strategy=SimpleNamespace(launcher=None))
        with monkeypatch.context() as context, ending_processes(none):
            context.setenv("LOCAL_RANK", "0")  # others start them
            with ending_processes(started):
                pass


def test_only_the_first_process_shows_what_is_no_warning(monkeypatch):
    for rank, level in enumerate((logging.NOTSET, logging.WARNING)):
        handler = logging.Handler()
        monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
        monkeypatch.setattr(rank_zero_only, "rank", rank)
        quiet_other_processes()
        assert handler.level == level


@pytest.mark.parametrize("training", [True, False])
def test_synchronised_batch_norm_of_group_maps_is_that_of_one_process(training):
    """What `trainer.sync_batchnorm` makes of `GroupBatchNorm`: statistics per channel."""
    x = torch.randn(4, 3, 4, 5, 5, dtype=torch.float64)
    norm = GroupBatchNorm(3).double()
    nn.init.normal_(norm.weight)
    norm(x * 2 + 1)
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(norm))
    norm.train(training), synchronised.train(training)
    torch.testing.assert_close(synchronised(x), norm(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(synchronised.state_dict(), norm.state_dict())
