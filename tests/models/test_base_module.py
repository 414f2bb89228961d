from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import instantiate
from lightning import Callback, Trainer
from torch import nn

from src.callbacks.checkpoints import AtomicCheckpointIO, BestAndLastCheckpoint, StoredConfig
from src.measures import relaxed_weight_error
from src.models.base_module import BaseModule
from src.models.classification_module import ClassificationModule
from src.models.components.gcnn import GroupConv, GroupPool, LiftingConv
from src.models.components.gcnn.relaxation import (
    relaxation_penalty,
    relaxations,
    relaxed_layers,
    set_relaxation,
)
from src.models.components.schedules import ConstantSchedule, CosineSchedule, LinearSchedule
from src.runs.checkpoints import load_checkpoint, load_weights
from tests.helpers.tiny import TinyData, TinyNetwork, lightning_warnings

pytestmark = lightning_warnings

SGD = partial(torch.optim.SGD, lr=0.1)
STEPS = 3  # of an epoch of TinyData


def test_subclasses_say_what_the_network_gets():
    with pytest.raises(NotImplementedError):
        BaseModule(nn.Linear(2, 2), SGD).network_inputs(torch.zeros(1, 2))


def test_only_the_network_is_in_checkpoints():
    module = BaseModule(nn.Linear(2, 2), SGD)
    assert list(module.state_dict()) == ["net.weight", "net.bias"]


def test_a_network_without_relaxed_layers_has_no_penalty():
    module = BaseModule(nn.Linear(2, 2), SGD, alpha=3.0)
    assert module._penalised(torch.tensor(0.25)) == 0.25


class Followed(Callback):
    """Notes alpha and theta of every step, and at the end of every epoch."""

    def __init__(self, end_at=None):
        self.steps, self.epochs, self.logged, self.end_at = [], [], [], end_at

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if len(self.steps) == self.end_at:
            raise RuntimeError("no more")
        self.steps.append(values_of(pl_module))

    def on_validation_end(self, trainer, pl_module):
        self.epochs.append(values_of(pl_module))

    def on_train_end(self, trainer, pl_module):
        self.logged.append(dict(trainer.callback_metrics))


def values_of(module):
    thetas = set(relaxations(module.net).values())
    return module.alpha, thetas.pop() if thetas else None


def module_of(net=None, **options):
    net = TinyNetwork("c4") if net is None else net
    adam = partial(torch.optim.Adam, lr=0.05)
    return ClassificationModule(net, adam, num_classes=3, **options)


def trained(folder, module, epochs=4, ckpt_path=None, end_at=None, **options):
    followed = Followed(end_at)
    kept = BestAndLastCheckpoint(str(folder), "val/loss", "min")
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        callbacks=[followed, kept, StoredConfig({"seed": 0})],
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(module, datamodule=TinyData(), ckpt_path=ckpt_path, weights_only=True)
    return followed


RELAX = CosineSchedule(1.0, 0.0, begin=0.25, finish=0.75)
PULL = LinearSchedule(0.0, 0.6, begin=0.0, finish=0.5)


def test_alpha_and_theta_follow_their_schedules(tmp_path):
    module = module_of(alpha=PULL, relaxation=RELAX)
    assert values_of(module) == (0.0, 1.0)
    followed = trained(tmp_path, module)
    total = 4 * STEPS
    assert [a for a, _ in followed.steps] == [PULL(k / total) for k in range(total)]
    thetas = [theta for _, theta in followed.steps]
    assert thetas == pytest.approx([RELAX(k / total) for k in range(total)], abs=1e-7)
    assert [a for a, _ in followed.epochs] == [PULL(k / 4) for k in (1, 2, 3, 4)]
    assert [t for _, t in followed.epochs] == pytest.approx([RELAX(k / 4) for k in (1, 2, 3, 4)])
    assert followed.epochs[2:] == [(0.6, 0.0)] * 2
    (logged,) = followed.logged
    assert (logged["train/alpha"].item(), logged["train/relaxation"].item()) == (
        pytest.approx(0.6),
        0.0,
    )


def test_a_schedule_counts_optimizer_steps(tmp_path):
    followed = trained(tmp_path, module_of(alpha=PULL), epochs=4, accumulate_grad_batches=2)
    assert [a for a, _ in followed.steps] == [PULL(k / 8) for k in range(8)]


def test_the_network_ends_strict(tmp_path):
    module = module_of(relaxation=LinearSchedule(1.0, 0.0, finish=0.8))
    trained(tmp_path, module, epochs=6)
    net = module.net
    layers = relaxed_layers(net)
    assert all(layer.relaxed_weights.std() > 1e-3 for layer in layers.values())
    assert relaxed_weight_error(net) == 0
    assert relaxation_penalty(net) == 0
    lift, conv = layers.values()
    strict = StrictTwin(lift, conv, net.head)
    x = torch.randn(5, 1, 6, 6)
    with torch.no_grad():
        assert (net(x) - strict(x)).abs().max() < 1e-6
        assert (net(x) - net(x.rot90(1, (-2, -1)))).abs().max() < 1e-5
        set_relaxation(net, None)
        assert (net(x) - strict(x)).abs().max() > 1e-3


class StrictTwin(nn.Module):
    """`TinyNetwork` of strict layers with the mixed banks, sum over l of w_bar_l psi_l."""

    def __init__(self, lift, conv, head):
        super().__init__()
        self.lift, self.conv = LiftingConv(1, 2, 3, "c4"), GroupConv(2, 2, 3, "c4")
        for strict, relaxed in ((self.lift, lift), (self.conv, conv)):
            mixed = torch.tensordot(relaxed.relaxed_weights.mean(1), relaxed.weight, dims=1)
            strict.load_state_dict({"weight": mixed, "bias": relaxed.bias})
        self.head = head

    def forward(self, x):
        return self.head(GroupPool()(self.conv(torch.relu(self.lift(x)))).mean((-2, -1)))


@pytest.mark.parametrize("end_at", [1, 5, 8, 11])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, end_at):
    def module():
        return module_of(alpha=PULL, relaxation=RELAX)

    whole = trained(tmp_path / "whole", module())
    with pytest.raises(RuntimeError, match="no more"):
        trained(tmp_path / "cut", module(), end_at=end_at)
    last = tmp_path / "cut" / "last.ckpt"
    path = last if last.exists() else None
    resumed = trained(tmp_path / "cut", module(), ckpt_path=path)
    assert resumed.steps == whole.steps[end_at // STEPS * STEPS :]
    for name in ("best.ckpt", "last.ckpt"):
        ours, expected = (load_checkpoint(tmp_path / run / name) for run in ("cut", "whole"))
        assert ours["relaxation"] == expected["relaxation"]
        for key, value in expected["state_dict"].items():
            assert torch.equal(ours["state_dict"][key], value)
    assert torch.equal(resumed.logged[0]["val/loss"], whole.logged[0]["val/loss"])


def test_a_completed_run_that_is_resumed_stays_strict(tmp_path):
    trained(tmp_path, module_of(relaxation=RELAX), epochs=2)
    again = module_of(relaxation=RELAX)
    trained(tmp_path, again, epochs=2, ckpt_path=tmp_path / "last.ckpt")
    assert values_of(again) == (0.0, 0.0)


def test_a_longer_run_has_a_longer_schedule(tmp_path):
    ramp = LinearSchedule(0.0, 1.0)
    trained(tmp_path, module_of(alpha=ramp), epochs=2)
    path = tmp_path / "last.ckpt"
    followed = trained(tmp_path, module_of(alpha=ramp), epochs=4, ckpt_path=path)
    assert [a for a, _ in followed.steps] == [ramp(k / 12) for k in range(6, 12)]


def test_a_constant_is_not_logged_and_not_changed(tmp_path):
    module = module_of(alpha=1e-4, relaxation=0.5)
    followed = trained(tmp_path, module, epochs=1)
    assert followed.steps == [(1e-4, 0.5)] * STEPS
    assert not {"train/alpha", "train/relaxation"} & set(followed.logged[0])


def test_free_layers_have_no_theta(tmp_path):
    module = module_of()
    followed = trained(tmp_path, module, epochs=1)
    assert followed.steps == [(0.0, None)] * STEPS
    assert load_checkpoint(tmp_path / "last.ckpt")["relaxation"] == {}


def test_theta_one_trains_as_free_layers_do(tmp_path):
    free, full = module_of(alpha=1e-3), module_of(alpha=1e-3, relaxation=ConstantSchedule(1.0))
    for name, module in (("free", free), ("full", full)):
        trained(tmp_path / name, module, epochs=2)
    for ours, theirs in zip(full.parameters(), free.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_weights_of_a_strict_checkpoint_are_a_strict_network(tmp_path):
    module = module_of(relaxation=RELAX)
    trained(tmp_path, module, epochs=2)
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    assert "relaxation" not in "".join(checkpoint["state_dict"])
    x = torch.randn(3, 1, 6, 6)
    for options in ({"relaxation": RELAX}, {}):
        loaded = module_of(**options)
        load_weights(loaded, checkpoint, "last.ckpt")
        assert values_of(loaded)[1] == 0.0
        assert relaxed_weight_error(loaded.net) == 0
        assert torch.equal(loaded(x), module(x))


def test_a_number_in_the_config_holds_over_the_checkpoints(tmp_path):
    trained(tmp_path, module_of(), epochs=1)
    projected = module_of(relaxation=0.0)
    load_weights(projected, load_checkpoint(tmp_path / "last.ckpt"), "last.ckpt")
    assert relaxed_weight_error(projected.net) == 0


def test_a_checkpoint_without_theta_is_of_free_layers(tmp_path):
    trained(tmp_path, module_of(), epochs=1)
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    del checkpoint["relaxation"]
    module = module_of(relaxation=RELAX)
    load_weights(module, checkpoint, "last.ckpt")
    assert values_of(module)[1] is None


def test_a_free_run_from_a_strict_checkpoint_must_be_asked_for(tmp_path):
    trained(tmp_path, module_of(relaxation=RELAX), epochs=1)
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    module = module_of()
    load_weights(module, checkpoint, "last.ckpt")
    with pytest.raises(ValueError, match=r"`relaxation` must say how.*got null, and 0 in the"):
        trained(tmp_path, module, epochs=1)
    module = module_of(relaxation=ConstantSchedule(1.0))
    load_weights(module, checkpoint, "last.ckpt")
    assert trained(tmp_path / "tuned", module, epochs=1).steps[0] == (0.0, 1.0)


def test_a_schedule_needs_an_end(tmp_path):
    with pytest.raises(ValueError, match=r"needs a run of known length; got one of inf steps. Set"):
        trained(tmp_path, module_of(alpha=PULL), epochs=-1)


def test_the_annealed_experiment_keeps_a_strict_network():
    """Its first epoch that may be the best is the first one that ends strict."""
    folder = Path(__file__).resolve().parents[2] / "configs" / "experiment"
    config = yaml.safe_load((folder / "rgcnn_rotmnist_annealed.yaml").read_text())
    schedule = instantiate(config["model"]["relaxation"])
    epochs, first = (
        config["trainer"]["max_epochs"],
        config["callbacks"]["checkpoint"]["first_epoch"],
    )
    assert schedule(0.3) == 1
    assert schedule((first + 1) / epochs) == 0 < schedule(first / epochs)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": LinearSchedule(0.0, -1.0)}, ValueError, "`alpha`.* of at least 0; got -1.0"),
        ({"alpha": {"start": 0.0}}, TypeError, "`alpha`.*got {'start': 0.0}. .* or a schedule of"),
        (
            {"relaxation": 1.5},
            ValueError,
            "`relaxation`.* from 0 .* to 1 .*got 1.5. Use model.rela",
        ),
        ({"relaxation": LinearSchedule(2.0, 0.0)}, ValueError, "`relaxation`.*got 2.0"),
        ({"relaxation": "free"}, TypeError, "`relaxation`.*got 'free'"),
        ({"relaxation": 0.5, "net": nn.Linear(2, 2)}, ValueError, "needs a relaxed layer.*Linear"),
        ({"relaxation": RELAX, "net": nn.Linear(2, 2)}, ValueError, "needs a relaxed layer"),
    ],
)
def test_bad_values_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        module_of(**options)
