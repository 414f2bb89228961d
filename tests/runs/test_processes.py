import logging
import subprocess
from types import SimpleNamespace

import pytest
import torch
from hydra.types import RunMode
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from omegaconf import OmegaConf
from torch import nn

from src.callbacks import EquivarianceError, ForecastPictures, OptimizationDynamics, WeightPictures
from src.errors import UserError
from src.models.components.gcnn import GroupBatchNorm, RelaxedLiftingConv
from src.runs.processes import (
    check_processes,
    check_trainer,
    ending_processes,
    quiet_other_processes,
)

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="refused where there is no CUDA")


def config(**trainer):
    return OmegaConf.create({"trainer": trainer})


@NO_CUDA
@pytest.mark.parametrize("accelerator", ["gpu", "auto", "cpu"])
def test_fsdp_needs_cuda(accelerator):
    with pytest.raises(UserError, match=r"trainer=fsdp .* CUDA devices; got .*on a machine with 0"):
        check_processes(config(strategy="fsdp", accelerator=accelerator))


@NO_CUDA
def test_synchronised_batch_norm_needs_cuda():
    with pytest.raises(UserError, match=r"`trainer\.sync_batchnorm` needs CUDA devices"):
        check_processes(config(strategy="ddp", accelerator="cpu", sync_batchnorm=True))


@NO_CUDA
@pytest.mark.parametrize("trainer", ["fsdp", "ddp"])
def test_a_run_is_refused_before_any_work(train, capsys, trainer):
    with pytest.raises(SystemExit):
        train(f"trainer={trainer}")
    assert "needs CUDA" in capsys.readouterr().err or trainer == "fsdp"


def test_one_process_is_fine():
    check_processes(config(accelerator="cpu"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "`hydra.run.dir` must be given where srun or torchrun starts"),
        (("seed=null",), "`seed` must be given where srun or torchrun starts"),
    ],
)
def test_processes_started_side_by_side_must_agree(
    train, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    place = [f"hydra.run.dir={tmp_path / 'a' / 'b' / 'c'}"] if arguments else []
    with pytest.raises(SystemExit):
        train(*arguments, *place)
    assert message in capsys.readouterr().err


def trainer_of(strategy, *callbacks):
    return SimpleNamespace(strategy=strategy, callbacks=callbacks)


def sharded():
    strategy = object.__new__(FSDPStrategy)
    strategy._launcher = None
    return strategy


@pytest.mark.parametrize(
    "callback", [EquivarianceError, OptimizationDynamics, WeightPictures, ForecastPictures]
)
def test_what_reads_weights_is_refused_where_they_are_split(callback):
    trainer = trainer_of(sharded(), callback())
    with pytest.raises(UserError, match=rf"whole weights.*got {callback.__name__}\. Use callbacks"):
        check_trainer(trainer, nn.Linear(1, 1))


def test_relaxed_layers_are_refused_where_weights_are_split():
    trainer = trainer_of(sharded())
    network = nn.Sequential(RelaxedLiftingConv(1, 1, 3, "c4"))
    with pytest.raises(UserError, match=r"penalty needs whole weights.*relaxed layers 0\. Use"):
        check_trainer(trainer, network)
    check_trainer(trainer, nn.Linear(1, 1))


def test_whole_weights_may_be_read():
    check_trainer(trainer_of(SimpleNamespace(launcher=None), EquivarianceError()), nn.Linear(1, 1))


class Child:
    """A process that ends with a status, once it is waited for or killed."""

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


def test_processes_that_end_well_are_waited_for():
    child = Child(0)
    with ending_processes(starting_trainer(child)):
        assert child.returncode is None
    assert child.returncode == 0


@pytest.mark.parametrize(("child", "status"), [(Child(1), 1), (Child(0, hangs=True), -9)])
def test_a_process_that_fails_at_the_end_is_an_error(child, status):
    with (
        pytest.raises(RuntimeError, match=rf"ended with the statuses \[{status}\]"),
        ending_processes(starting_trainer(child)),
    ):
        pass


def test_processes_end_with_the_run_and_are_no_longer_watched():
    child = Child(0, hangs=True)
    trainer = starting_trainer(child)
    with pytest.raises(KeyError), ending_processes(trainer):
        raise KeyError
    assert child.returncode == -9
    assert trainer.strategy.launcher.procs == [], "Lightning kills the run for one that failed"


def test_several_machines_need_a_cluster():
    with pytest.raises(UserError, match=r"srun or torchrun must start .* trainer\.num_nodes=2"):
        check_trainer(starting_trainer(num_nodes=2), nn.Linear(1, 1))


def test_a_job_of_a_multirun_must_not_start_the_multirun_again(monkeypatch):
    hydra = SimpleNamespace(
        initialized=lambda: True, get=lambda: SimpleNamespace(mode=RunMode.MULTIRUN)
    )
    monkeypatch.setattr("src.runs.processes.HydraConfig", hydra)
    with pytest.raises(UserError, match=r"run the whole multirun again; got 2 devices\. Use"):
        check_trainer(starting_trainer(), nn.Linear(1, 1))


@pytest.mark.parametrize(("rank", "told"), [(0, True), (1, False)])
def test_only_the_first_process_tells_what_is_no_warning(monkeypatch, rank, told):
    seen = []
    handler = logging.Handler()
    handler.emit = seen.append
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler])
    monkeypatch.setattr(root, "level", logging.INFO)
    monkeypatch.setattr(rank_zero_only, "rank", rank)
    quiet_other_processes()
    root.info("news")
    root.warning("warning")
    assert [record.getMessage() for record in seen] == ["news"] * told + ["warning"]


@pytest.mark.parametrize("training", [True, False])
def test_synchronised_batch_norm_of_group_maps_is_that_of_one_process(training):
    """What `trainer.sync_batchnorm` makes of `GroupBatchNorm`: statistics per channel."""
    x = torch.randn(4, 3, 4, 5, 5, dtype=torch.float64)
    norm = GroupBatchNorm(3).double()
    nn.init.normal_(norm.weight)
    norm(x * 2 + 1)
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(GroupBatchNorm(3).double())
    synchronised.load_state_dict(norm.state_dict())
    norm.train(training), synchronised.train(training)
    torch.testing.assert_close(synchronised(x), norm(x), rtol=1e-12, atol=1e-12)
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(synchronised.state_dict()[name], value)
