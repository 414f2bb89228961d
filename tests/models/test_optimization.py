"""Every optimizer and schedule of the configs trains, at the learning rates that it is given."""

import math
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from src.callbacks.checkpoints import AtomicCheckpointIO, BestAndLastCheckpoint
from src.models.classification_module import ClassificationModule
from src.models.components.gcnn import GroupPool, RelaxedGroupConv, RelaxedLiftingConv
from src.models.components.translation import RelaxedTranslationConv
from src.models.optimization import CosineLR
from src.runs.resolvers import register_resolvers
from tests.helpers.tiny import TinyData, TinyNetwork, lightning_warnings
from tests.helpers.windows import make_trainer

pytestmark = lightning_warnings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
OPTIMIZERS, SCHEDULERS = (
    sorted(path.stem for path in (CONFIGS / "model" / group).glob("*.yaml"))
    for group in ("optimizer", "scheduler")
)


@cache
def configured(*overrides, model="rgcnn"):
    """What a module is given of a composed config."""
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", [f"model={model}", *overrides]).model
    return instantiate(config.optimizer), instantiate(config.scheduler)


def module_of(optimizer, scheduler=None, net=None, **options):
    net = TinyNetwork("c4") if net is None else net
    return ClassificationModule(net, optimizer, scheduler, **options)


class OneBatch(TinyData):
    """All training images at once, which L-BFGS is made for."""

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=12)


def trained(folder, module, epochs=4, resume=False, data=TinyData, **options):
    """Learning rates of all groups after each step, and the module."""
    rates = []

    class Rates(BestAndLastCheckpoint):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    kept, plugins = Rates(str(folder), "val/loss", "min"), [AtomicCheckpointIO()]
    options |= {"callbacks": [kept], "enable_checkpointing": True, "plugins": plugins}
    trainer = make_trainer(folder, max_epochs=epochs, **options)
    path = folder / "last.ckpt" if resume else None
    trainer.fit(module, datamodule=data(), ckpt_path=path, weights_only=True)
    return rates, kept.last["metrics"]["train/loss"]


PAIRS = [(o, "cosine" if o != "lbfgs" else "step") for o in OPTIMIZERS]
PAIRS += [("adam", s) for s in SCHEDULERS if s != "cosine"]
SLOW = [pytest.param(*pair, marks=pytest.mark.slow) for pair in PAIRS]
QUICK = [("sgd", "one_cycle"), ("lbfgs", "none")]


@pytest.mark.parametrize(("optimizer", "scheduler"), [*QUICK, *SLOW])
def test_every_choice_trains_and_resumes(tmp_path, optimizer, scheduler):
    """At a learning rate that is given under the same key for all; four epochs, or twice two."""
    choices = f"model/optimizer={optimizer}", f"model/scheduler={scheduler}"
    lr = {"sgd": 0.05, "lbfgs": 0.5}.get(optimizer, 0.02)

    def module():
        return module_of(*configured(*choices, f"model.optimizer.lr={lr}"))

    data, steps = (OneBatch, 1) if optimizer == "lbfgs" else (TinyData, 3)  # of an epoch
    module().check_optimizer()
    rates, loss = trained(tmp_path / "whole", module(), data=data)
    rates = [rate for (rate,) in rates]
    assert max(rates) == pytest.approx(lr, rel=0.15 if scheduler == "one_cycle" else 1e-6)
    assert (rates[-1] < 0.99 * lr) == (scheduler not in ("none", "plateau", "step"))
    if scheduler == "one_cycle":
        return  # its momentum at the end of a shorter run is another
    trained(tmp_path, module(), epochs=2, data=data)
    resumed, resumed_loss = trained(tmp_path, module(), resume=True, data=data)
    if scheduler != "cosine":  # whose two epochs were a whole run
        assert [rate for (rate,) in resumed] == pytest.approx(rates[2 * steps :])
        assert resumed_loss == pytest.approx(loss, rel=1e-4)
    else:
        assert resumed[1][0] == pytest.approx(rates[2 * steps + 1])
    assert loss < 1.2


def test_the_defaults_are_those_that_published_figures_are_of():
    optimizer, scheduler = configured()
    assert (optimizer.func, scheduler.func) == (torch.optim.Adam, OneCycleLR)
    assert optimizer.keywords["weight_decay"] == 0
    assert scheduler.keywords == {"max_lr": optimizer.keywords["lr"]}
    optimizer, scheduler = configured("data=smoke_level", model="rgcnn_smoke")
    assert optimizer.keywords == {"lr": 0.001, "weight_decay": 0.0004, "relaxed_lr_factor": 1.0}
    assert (scheduler.func.__name__, scheduler.keywords) == ("ExponentialLR", {"gamma": 0.95})


def test_a_cosine_is_a_function_of_the_step_alone():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    ours, theirs = CosineLR(optimizer, total_steps=10), []
    twin = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    library = CosineAnnealingLR(twin, T_max=10)
    for _ in range(10):
        theirs.append((optimizer.param_groups[0]["lr"], twin.param_groups[0]["lr"]))
        optimizer.step(), ours.step(), twin.step(), library.step()
    assert all(a == pytest.approx(b, abs=1e-12) for a, b in theirs)
    optimizer.step(), ours.step()
    assert ours.get_last_lr() == [0], "and stays there"


@pytest.mark.parametrize(("warmup", "first"), [(0.2, 4), (0.04, 1)])
def test_a_cosine_rises_before_it_falls(warmup, first):
    """In equal steps to the whole learning rate, then as without in the steps that are left."""
    rate = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    schedule, rates = CosineLR(rate, total_steps=20 if first > 1 else 25, warmup=warmup), []
    for _ in range(schedule.total_steps):
        rates.append(rate.param_groups[0]["lr"])
        rate.step(), schedule.step()
    left = schedule.total_steps - first
    falling = [0.1 * (1 + math.cos(math.pi * k / left)) for k in range(left)]
    rising = [0.2 * (k + 1) / (first + 1) for k in range(first)]
    assert rates == pytest.approx([*rising, *falling])
    with pytest.raises(ValueError, match=r"`warmup` must be a number from 0 to 0\.99; got 1\.0"):
        CosineLR(rate, total_steps=20, warmup=1.0)


class Mixed(nn.Module):
    """Each kind of relaxed weight: of banks, biases of elements, maps."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        options = {"num_filter_banks": 2, "group_biases": True}
        self.maps = RelaxedTranslationConv(1, 1, 3, (6, 6))
        self.first = RelaxedLiftingConv(1, 2, 3, "c4", **options)
        self.second = RelaxedGroupConv(2, 3, 3, "c4", **options)
        self.pool = GroupPool()

    def forward(self, x):
        return self.pool(self.second(self.first(self.maps(x)).relu())).mean((-2, -1))


RELAXED = {f"{n}.relaxed_weights" for n in ("maps", "first", "second")}
RELAXED |= {"first.group_biases", "second.group_biases"}


@pytest.mark.parametrize("scheduler", ["one_cycle", "cosine", "none"])
def test_relaxed_weights_may_have_a_learning_rate_of_their_own(tmp_path, scheduler):
    moved = {}
    for factor in (1.0, 0.25):
        overrides = f"model.optimizer.relaxed_lr_factor={factor}", f"model/scheduler={scheduler}"
        module = module_of(*configured(*overrides), net=Mixed())
        before = {name: p.detach().clone() for name, p in module.net.named_parameters()}
        rates, _ = trained(tmp_path, module, epochs=1, limit_train_batches=2)
        assert all(len(groups) == (1 if factor == 1 else 2) for groups in rates)
        assert all(groups[-1] == pytest.approx(factor * groups[0]) for groups in rates)
        module = module_of(*configured(*overrides), net=Mixed())
        trained(tmp_path, module, epochs=1, limit_train_batches=1, limit_val_batches=0)
        now = module.net.named_parameters()
        moved[factor] = {name: (p - before[name]).abs().max().item() for name, p in now}
    for name, distance in moved[1.0].items():  # Adam's first step is the learning rate
        factor = 0.25 if name in RELAXED else 1.0
        assert moved[0.25][name] == pytest.approx(factor * distance, rel=1e-4, abs=1e-7)
    learning = module_of(*configured(*overrides), net=Mixed(), relaxation="learned")
    groups = learning._make_optimizer(total_steps=10, validates=True)["optimizer"].param_groups
    rates = [group["lr"] / groups[0]["lr"] for group in groups]
    assert rates == pytest.approx([1.0, 1.0, 0.25]), "those of all, of thetas, of what is relaxed"
    plain = module_of(*configured("model.optimizer.relaxed_lr_factor=0.25"), net=TinyNetwork())
    assert len(plain.configure_optimizers.__self__.optimizer.keywords) == 3
    plain.check_optimizer()


def test_learned_thetas_have_no_weight_decay():
    decayed = partial(torch.optim.SGD, lr=0.1, weight_decay=0.5)
    module = module_of(decayed, relaxation="learned")
    optimizer = module._make_optimizer(total_steps=10, validates=True)["optimizer"]
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer.step()
    for name, parameter in module.named_parameters():
        factor = 1.0 if name.endswith(".relaxation") else 0.95
        assert torch.allclose(parameter, factor * before[name])
    assert sum(name.endswith(".relaxation") for name in before) == 2


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"check_val_every_n_epoch": 2, "max_epochs": 5}, 2),
        ({"val_check_interval": 1, "max_epochs": 2}, 6),
        ({"check_val_every_n_epoch": None, "val_check_interval": 4, "max_epochs": 3}, 2),
        ({"max_epochs": 2, "num_sanity_val_steps": 1}, 2),
    ],
)
def test_a_schedule_that_follows_a_metric_takes_a_step_after_each_validation(
    tmp_path, options, steps
):
    module = module_of(*configured("model/scheduler=plateau"))
    trainer = make_trainer(tmp_path, **options)
    trainer.fit(module, datamodule=TinyData())
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == steps


ADAM, SGD = (partial(kind, lr=0.1) for kind in (torch.optim.Adam, torch.optim.SGD))
CYCLE = partial(OneCycleLR, max_lr=0.1)
REFUSED = {
    "left over": ((ADAM, partial(CosineAnnealingLR, T_max=3, max_lr=1)), "scheduler.*'max_lr'"),
    "no momentum": ((partial(torch.optim.Adagrad, lr=0.1), CYCLE), "`model.scheduler`.*momentum"),
    "unknown": ((partial(torch.optim.SGD, lr=0.1, betas=1),), "`model.optimizer`.*'betas'"),
    "value": (
        (partial(torch.optim.Adam, lr=-1.0),),
        "Invalid learning rate: -1.0.*model/optimizer",
    ),
    "factor": ((partial(torch.optim.Adam, relaxed_lr_factor=-1),), "`relaxed_lr_factor` must be"),
    "groups": ((partial(torch.optim.LBFGS, relaxed_lr_factor=2),), "LBFGS.*per-parameter options"),
    "missing": ((ADAM, partial(ReduceLROnPlateau, gamma=1)), "`model.scheduler`.*'gamma'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_one_message_before_training(case):
    (optimizer, *scheduler), message = REFUSED[case]
    with pytest.raises(ValueError, match=rf"{message}") as raised:
        module_of(optimizer, *scheduler).check_optimizer()
    assert "~model." in str(raised.value)


def test_a_schedule_that_follows_a_metric_needs_one(tmp_path):
    module = module_of(*configured("model/scheduler=plateau"))
    with pytest.raises(ValueError, match=r"where val/loss is not measured.*model/scheduler=none"):
        make_trainer(tmp_path, limit_val_batches=0).fit(module, datamodule=TinyData())
    module.validation_step = lambda batch, batch_idx: None
    with pytest.raises(ValueError, match="where val/loss is not measured"):
        make_trainer(tmp_path).fit(module, datamodule=TinyData())
