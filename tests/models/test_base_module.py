"""What training shares, on `ClassificationModule`: schedules, theta, seeds, checkpoints."""

from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import instantiate
from lightning import Callback
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from src.callbacks.checkpoints import AtomicCheckpointIO, BestAndLastCheckpoint, StoredConfig
from src.measures import relaxed_weight_error
from src.models.base_module import BaseModule
from src.models.classification_module import ClassificationModule
from src.models.components.gcnn.relaxation import relaxation_penalty, relaxations, relaxed_layers
from src.models.components.schedules import ConstantSchedule, CosineSchedule, LinearSchedule
from src.runs.checkpoints import load_checkpoint, load_weights
from src.seeding import seed_run
from tests.helpers.tiny import TinyData, TinyNetwork, lightning_warnings
from tests.helpers.windows import make_trainer

pytestmark = lightning_warnings

SGD = partial(torch.optim.SGD, lr=0.1)
STEPS = 3  # of an epoch of TinyData
RELAX = CosineSchedule(1.0, 0.0, begin=0.25, finish=0.75)
PULL = LinearSchedule(0.0, 0.6, begin=0.0, finish=0.5)


class Followed(Callback):
    """Notes alpha, theta and the learning rate of every step, and what is logged."""

    def __init__(self, end_at=None):
        self.steps, self.rates, self.end_at = [], [], end_at

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if len(self.steps) == self.end_at:
            raise RuntimeError("no more")
        self.steps.append(values_of(pl_module))
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_end(self, trainer, pl_module):
        self.logged = {name: value.item() for name, value in trainer.callback_metrics.items()}


def values_of(module):
    thetas = set(relaxations(module.net).values())
    return module.alpha, thetas.pop() if thetas else None


def module_of(net=None, optimizer=None, **options):
    net = TinyNetwork("c4") if net is None else net
    optimizer = partial(torch.optim.Adam, lr=0.05) if optimizer is None else optimizer
    return ClassificationModule(net, optimizer, **options)


def trained(folder, module, epochs=4, ckpt_path=None, end_at=None, **options):
    followed = Followed(end_at)
    kept = BestAndLastCheckpoint(str(folder), "val/loss", "min"), StoredConfig({"seed": 0})
    options |= {"callbacks": [followed, *kept], "plugins": [AtomicCheckpointIO()]}
    trainer = make_trainer(folder, max_epochs=epochs, enable_checkpointing=True, **options)
    trainer.fit(module, datamodule=TinyData(), ckpt_path=ckpt_path, weights_only=True)
    return followed


def test_only_the_network_is_in_checkpoints_and_has_no_penalty_without_relaxed_layers():
    module = BaseModule(nn.Linear(2, 2), SGD)
    assert list(module.state_dict()) == ["net.weight", "net.bias"]
    assert module._penalised(torch.tensor(0.25)) == 0.25


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with schedules of alpha and theta: its folder, module, and what was noted."""
    folder, module = tmp_path_factory.mktemp("whole"), module_of(alpha=PULL, relaxation=RELAX)
    assert values_of(module) == (0.0, 1.0)
    return folder, module, trained(folder, module)


def test_alpha_and_theta_follow_their_schedules_until_the_network_is_strict(whole):
    folder, module, followed = whole
    total = 4 * STEPS
    assert [a for a, _ in followed.steps] == [PULL(k / total) for k in range(total)]
    thetas = [theta for _, theta in followed.steps]
    assert thetas == pytest.approx([RELAX(k / total) for k in range(total)], abs=1e-7)
    assert values_of(module) == (0.6, 0.0)
    assert followed.logged["train/alpha"] == pytest.approx(0.6)
    assert followed.logged["train/relaxation"] == 0
    assert all(layer.relaxed_weights.std() > 1e-3 for layer in relaxed_layers(module.net).values())
    assert relaxed_weight_error(module.net) == relaxation_penalty(module.net) == 0
    x, checkpoint = torch.randn(5, 1, 6, 6), load_checkpoint(folder / "last.ckpt")
    assert (module(x) - module(x.rot90(1, (-2, -1)))).abs().max() < 1e-5
    assert "relaxation" not in "".join(checkpoint["state_dict"])
    for options in ({"relaxation": RELAX}, {}):  # a strict checkpoint is a strict network
        loaded = module_of(**options)
        load_weights(loaded, checkpoint, "last.ckpt")
        assert values_of(loaded)[1] == 0.0
        assert torch.equal(loaded(x), module(x))


def test_a_schedule_counts_optimizer_steps_and_has_an_end(tmp_path):
    followed = trained(tmp_path, module_of(alpha=PULL), accumulate_grad_batches=2)
    assert [a for a, _ in followed.steps] == [PULL(k / 8) for k in range(8)]
    with pytest.raises(ValueError, match=r"needs a run of known length; got one of inf steps. Set"):
        trained(tmp_path, module_of(alpha=PULL), epochs=-1)


@pytest.mark.parametrize("end_at", [5, 11])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, whole, end_at):
    folder, _, followed = whole
    with pytest.raises(RuntimeError, match="no more"):
        trained(tmp_path, module_of(alpha=PULL, relaxation=RELAX), end_at=end_at)
    module, last = module_of(alpha=PULL, relaxation=RELAX), tmp_path / "last.ckpt"
    resumed = trained(tmp_path, module, ckpt_path=last)
    assert resumed.steps == followed.steps[end_at // STEPS * STEPS :]
    for name in ("best.ckpt", "last.ckpt"):
        ours, expected = (load_checkpoint(run / name) for run in (tmp_path, folder))
        assert ours["relaxation"] == expected["relaxation"]
        for key, value in expected["state_dict"].items():
            assert torch.equal(ours["state_dict"][key], value)
    assert resumed.logged["val/loss"] == followed.logged["val/loss"]


def test_a_longer_run_has_longer_schedules(tmp_path):
    """Of alpha, theta and the learning rate."""
    one_cycle = partial(OneCycleLR, max_lr=0.1)
    ramp = {"alpha": LinearSchedule(0.0, 1.0), "scheduler": one_cycle, "optimizer": SGD}
    whole = trained(tmp_path / "whole", module_of(**ramp))
    trained(tmp_path, module_of(**ramp), epochs=2)
    resumed = trained(tmp_path, module_of(**ramp), ckpt_path=tmp_path / "last.ckpt")
    assert resumed.steps == whole.steps[6:]
    assert resumed.rates[1:] == pytest.approx(whole.rates[7:])  # the first is the checkpoint's
    assert max(whole.rates) > 0.05
    assert whole.rates[-1] == pytest.approx(0.1 / 25 / 1e4)


def test_free_layers_have_no_theta(tmp_path):
    """And theta = 1 trains as they do; a number in the config holds over the checkpoint's."""
    free, full = module_of(alpha=1e-3), module_of(alpha=1e-3, relaxation=ConstantSchedule(1.0))
    assert trained(tmp_path, free, epochs=2).steps == [(1e-3, None)] * 2 * STEPS
    trained(tmp_path / "full", full, epochs=2)
    for ours, theirs in zip(full.parameters(), free.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    assert checkpoint["relaxation"] == {}
    projected, restored = module_of(relaxation=0.0), module_of(relaxation=RELAX)
    load_weights(projected, checkpoint, "last.ckpt")
    assert relaxed_weight_error(projected.net) == 0
    del checkpoint["relaxation"]
    load_weights(restored, checkpoint, "last.ckpt")
    assert values_of(restored)[1] is None


def test_a_free_run_from_a_strict_checkpoint_must_be_asked_for(tmp_path):
    """And constants are neither changed nor logged."""
    followed = trained(tmp_path, module_of(alpha=1e-4, relaxation=0.0), epochs=1)
    assert followed.steps == [(1e-4, 0.0)] * STEPS
    assert not {"train/alpha", "train/relaxation"} & set(followed.logged)
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    module = module_of()
    load_weights(module, checkpoint, "last.ckpt")
    with pytest.raises(ValueError, match=r"`relaxation` must say how.*got null, and 0 in the"):
        trained(tmp_path, module, epochs=1)
    module = module_of(relaxation=ConstantSchedule(1.0))
    load_weights(module, checkpoint, "last.ckpt")
    assert trained(tmp_path / "tuned", module, epochs=1).steps[0] == (0.0, 1.0)


def test_the_annealed_experiment_keeps_a_strict_network():
    """Its first epoch that may be the best is the first one that ends strict."""
    folder = Path(__file__).resolve().parents[2] / "configs" / "experiment"
    config = yaml.safe_load((folder / "rgcnn_rotmnist_annealed.yaml").read_text())
    chosen = yaml.safe_load((folder.parent / "relaxation" / "annealed.yaml").read_text())
    schedule, epochs = instantiate(chosen["model"]["relaxation"]), config["trainer"]["max_epochs"]
    first = config["callbacks"]["checkpoint"]["first_epoch"]
    assert schedule(0.3) == 1
    assert schedule((first + 1) / epochs) == 0 < schedule(first / epochs)


@pytest.mark.parametrize(
    ("scheduler", "interval", "steps", "expected"),
    [
        (partial(OneCycleLR, max_lr=0.1), None, 6, "step"),
        (partial(OneCycleLR, max_lr=0.1, total_steps=100), None, 6, "step"),
        (partial(ExponentialLR, gamma=0.5), None, 2, "epoch"),
        (partial(ExponentialLR, gamma=0.5), "step", 6, "step"),
        (None, None, 0, None),
    ],
)
def test_schedules_advance_each_step_or_epoch(tmp_path, scheduler, interval, steps, expected):
    module = module_of(TinyNetwork(), SGD, scheduler=scheduler, scheduler_interval=interval)
    trainer = make_trainer(tmp_path, max_epochs=2)
    trainer.fit(module, datamodule=TinyData())
    found = [(c.interval, c.scheduler.last_epoch) for c in trainer.lr_scheduler_configs]
    assert found == ([] if scheduler is None else [(expected, steps)])
    for configured in trainer.lr_scheduler_configs:
        length = scheduler.keywords.get("total_steps", 6)
        assert getattr(configured.scheduler, "total_steps", length) == length


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1e-5}, "`alpha` must be a number of at least 0; got -1e-05"),
        ({"alpha": LinearSchedule(0.0, -1.0)}, "`alpha`.* of at least 0; got -1.0"),
        ({"alpha": "1"}, "`alpha`.*got '1'.*or a schedule of"),
        ({"relaxation": 1.5}, "`relaxation` must be a number from 0 to 1; got 1.5. Use model.rel"),
        ({"relaxation": RELAX, "net": nn.Linear(2, 2)}, "needs a relaxed layer.*Linear"),
        ({"optimizer": 3}, "`optimizer` must be a function.*got 3. Use model/optimizer=<na"),
        ({"scheduler": 3}, "`scheduler` must be a function.*`_partial_: true` in model.scheduler"),
        ({"scheduler_interval": "day"}, "`scheduler_interval` must be one of step, epoch; got"),
        ({"monitor_mode": "best"}, "`monitor_mode` must be one of max, min; got 'best'"),
    ],
)
def test_bad_values_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        module_of(**options)


class Numbers(Dataset):
    """0 .. 5; with the random number that its process draws with each."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.tensor([float(index), torch.rand(())])


class Recorder(BaseModule):
    """Notes its batches and what it draws itself."""

    def __init__(self):
        super().__init__(nn.Linear(1, 1), SGD)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch.tolist(), torch.rand(()).item()))
        return self.net.weight.sum() * 0


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_resumed_run_sees_the_batches_and_numbers_of_an_uninterrupted_one(
    tmp_path, workers, monkeypatch
):
    def seen(seed, epochs, path=None):
        if seed is None:
            monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
        else:
            seed_run(seed)
        torch.rand(100 if path else 1)  # whatever else happens
        model, data = Recorder(), Numbers()
        trainer = make_trainer(tmp_path, max_epochs=epochs)
        sampler = DistributedSampler(data, 1, 0, seed=3)
        loader = DataLoader(data, 2, sampler=sampler, num_workers=workers)
        trainer.fit(model, loader, ckpt_path=path, weights_only=True)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return model.seen

    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")  # so that it is taken back
    whole = seen(0, 3)
    seen(0, 2)
    resumed = seen(0, 3, tmp_path / "2.ckpt")
    assert [epoch for epoch, *_ in resumed] == [2, 2, 2]
    assert resumed == whole[6:]
    assert len({number for *_, number in whole}) == 9
    assert seen(1, 3) != whole
    assert seen(None, 1) != seen(None, 1), "without a seed the random state is left alone"
