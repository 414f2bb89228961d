"""How strongly and what pulls back, in training: strict validation, learned thetas, penalties."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from lightning import Callback
from torch import nn

from src.callbacks import ReestimatedStatistics, RelaxedWeights
from src.callbacks.checkpoints import AtomicCheckpointIO, BestAndLastCheckpoint, StoredConfig
from src.models.classification_module import ClassificationModule
from src.models.components.gcnn.relaxation import relaxations, relaxed_by, relaxed_layers
from src.models.components.schedules import LinearSchedule, TriangleSchedule
from src.models.dual_ascent import DualAscent
from src.models.penalties import weight_penalty
from src.runs.checkpoints import load_checkpoint, load_weights
from tests.helpers.tiny import TinyData, TinyNetwork, lightning_warnings
from tests.helpers.windows import make_module, make_trainer, make_windows, quiet

pytestmark = lightning_warnings

ADAM = partial(torch.optim.Adam, lr=0.05)
STEPS = 3  # of an epoch of TinyData


class Normed(TinyNetwork):
    """With a batch norm, whose statistics differ between free and strict layers."""

    def __init__(self):
        super().__init__("c4")
        self.blocks[0].insert(1, nn.BatchNorm3d(2))


class Data(TinyData):
    """With test data, and samples to estimate statistics on."""

    def test_dataloader(self):
        return self.val_dataloader()

    def sample_training(self, num_samples, seed=0):
        return [self.train[:]]


def module_of(net=None, optimizer=ADAM, **options):
    return ClassificationModule(net or TinyNetwork("c4"), optimizer, **options)


class Noted(Callback):
    """Thetas and multipliers at each step, at each validation batch, and what is logged."""

    def __init__(self, end_at=None):
        self.steps, self.validated, self.logged, self.end_at = [], [], {}, end_at

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if len(self.steps) == self.end_at:
            raise RuntimeError("no more")
        ascent = pl_module.relaxation
        multipliers = ascent.multipliers.tolist() if isinstance(ascent, DualAscent) else None
        self.steps.append((relaxations(pl_module.net), multipliers))

    def on_validation_batch_end(self, trainer, pl_module, *_):
        self.validated.append(relaxations(pl_module.net))

    def on_train_end(self, trainer, pl_module):
        self.logged = {name: value.item() for name, value in trainer.callback_metrics.items()}


def trained(folder, module, *callbacks, epochs=4, ckpt_path=None, end_at=None, **options):
    noted, kept = Noted(end_at), BestAndLastCheckpoint(str(folder), "val/loss", "min")
    options |= {"callbacks": [noted, *callbacks, kept, StoredConfig({"seed": 0})]}
    options |= {"plugins": [AtomicCheckpointIO()], "enable_checkpointing": True}
    trainer = make_trainer(folder, max_epochs=epochs, **options)
    trainer.fit(module, datamodule=Data(), ckpt_path=ckpt_path, weights_only=True)
    return noted


def test_a_triangle_trains_free_and_is_validated_tested_and_stored_strict(tmp_path):
    triangle, data = TriangleSchedule(), Data()
    module = module_of(Normed(), relaxation=triangle)
    statistics = ReestimatedStatistics(num_samples=12)
    noted = trained(tmp_path, module, statistics)
    total = 4 * STEPS
    for k, (thetas, _) in enumerate(noted.steps):
        assert list(thetas.values()) == pytest.approx([triangle(k / total)] * 2)
    assert all(set(thetas.values()) == {0.0} for thetas in noted.validated)
    assert set(relaxations(module.net).values()) == {0.0}
    with relaxed_by(module.net, 0.5):  # half way
        module.on_save_checkpoint(checkpoint := {})
    assert set(checkpoint["relaxation"].values()) == {0.0}
    for name in ("best.ckpt", "last.ckpt"):
        checkpoint = load_checkpoint(tmp_path / name)
        assert set(checkpoint["relaxation"].values()) == {0.0}
        loaded = module_of(Normed(), relaxation=triangle)
        load_weights(loaded, checkpoint, name)
        x = data.val[:][0]
        assert torch.allclose(loaded(x), loaded(x.rot90(1, (-2, -1))), atol=1e-5)
    (tested,) = make_trainer(tmp_path).test(loaded, datamodule=data, verbose=False)
    assert tested["test/strict/loss"] == tested["test/loss"], "the same network"


def test_statistics_of_a_strict_validation_are_not_those_of_the_network_as_it_is_trained():
    net = Normed()
    for layer in relaxed_layers(net).values():
        nn.init.normal_(layer.relaxed_weights)
    module, callback = module_of(net, relaxation=TriangleSchedule()), ReestimatedStatistics(12)
    callback._batches = [TinyData().train[:]]
    found = []
    for theta in (0.0, 1.0, 0.0):
        with relaxed_by(net, theta):
            found.append(callback.statistics(None, module))
    name = next(name for name in found[0] if name.endswith("running_mean"))
    assert torch.equal(found[0][name], found[2][name])
    assert not torch.allclose(found[0][name], found[1][name])


CHOICES = {
    "triangle": {"relaxation": TriangleSchedule},
    "learned": {"relaxation": lambda: "learned"},
    "dual": {"relaxation": lambda: DualAscent(0.1, damping=0.1)},
    "elastic": {"relaxation": lambda: DualAscent(0.1, elastic=0.5)},
    "l2": {"penalty": lambda: "l2", "alpha": lambda: LinearSchedule(0.0, 1.0)},
    "projection": {"penalty": lambda: "projection", "alpha": lambda: 0.5},
}


SLOW = [pytest.param(c, marks=pytest.mark.slow if c != "dual" else ()) for c in CHOICES]


@pytest.mark.parametrize("choice", SLOW)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, choice):
    def make():
        return module_of(**{name: value() for name, value in CHOICES[choice].items()})

    whole = trained(tmp_path / "whole", make())
    with pytest.raises(RuntimeError, match="no more"):
        trained(tmp_path, make(), end_at=7)
    resumed = trained(tmp_path, make(), ckpt_path=tmp_path / "last.ckpt")
    assert resumed.steps == whole.steps[2 * STEPS :]
    ours, expected = (load_checkpoint(run / "last.ckpt") for run in (tmp_path, tmp_path / "whole"))
    assert ours["relaxation"] == expected["relaxation"]
    torch.testing.assert_close(ours["state_dict"], expected["state_dict"], rtol=0, atol=0)
    assert resumed.logged["val/loss"] == whole.logged["val/loss"]


@pytest.mark.parametrize("elastic", [None, 0.5])
def test_multipliers_ascend_after_each_optimizer_step(tmp_path, elastic):
    """Not with each batch; and thetas, multipliers and departures are logged by layer."""
    module = module_of(relaxation=DualAscent(0.1, elastic, damping=0.2), alpha=1e-3)
    options = {"accumulate_grad_batches": 2}
    noted = trained(tmp_path, module, RelaxedWeights(), epochs=2, **options)
    assert len(noted.steps) == 4
    expected = [0.0, 0.0]
    for (_, multipliers), (thetas, _) in zip(noted.steps, noted.steps[1:]):
        assert multipliers == pytest.approx(expected)
        for place, theta in enumerate(thetas.values()):  # those that the step ended with
            bound = 0.0 if elastic is None else expected[place] / elastic
            value = theta if elastic is None else abs(theta) - bound
            expected[place] = expected[place] + 0.1 * value
    names = list(relaxed_layers(module.net))
    thetas, multipliers = relaxations(module.net), module.relaxation.named_multipliers(module.net)
    for name in names:
        assert noted.logged[f"dynamics/theta/{name}"] == pytest.approx(thetas[name])
        assert noted.logged[f"dynamics/multiplier/{name}"] == pytest.approx(multipliers[name])
        assert f"dynamics/departure/{name}" in noted.logged
    assert any(theta != 1 for theta in thetas.values())
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    assert {"relaxation.multipliers", f"net.{names[0]}.relaxation"} <= set(checkpoint["state_dict"])


def test_the_loss_has_the_penalty_and_the_multipliers():
    torch.manual_seed(1)
    batch = x, y = torch.randn(4, 1, 6, 6), torch.tensor([0, 1, 2, 0])
    for penalty in ("l1", "l2", "projection", "output"):
        ascent = DualAscent(0.1)
        module = module_of(relaxation=ascent, penalty=penalty, alpha=0.5)
        module.log = lambda *_, **__: None
        for layer in relaxed_layers(module.net).values():
            nn.init.normal_(layer.relaxed_weights)
        ascent.ascend(module.net)
        torch.manual_seed(2)
        loss = module.training_step(batch, 0)
        expected = F.cross_entropy(module(x), y) + ascent(module.net)
        if penalty == "output":
            torch.manual_seed(2)
            turns = [torch.randint(1, 4, (4,))][0].tolist()
            turned = torch.stack([image.rot90(k, (-2, -1)) for image, k in zip(x, turns)])
            expected = expected + 0.5 * (module(turned) - module(x)).square().mean()
        else:
            kinds = module.penalty_group, "scalar", "invariant"
            expected = expected + 0.5 * weight_penalty(module.net, penalty, *kinds)
        torch.testing.assert_close(loss, expected)


def test_the_output_penalty_of_forecasts_is_that_of_the_whole_rollout():
    """Fields of all frames turn, vectors with them; it is logged as the penalty."""
    options = {"penalty": "output", "penalty_group": "c2", "alpha": 2.0}
    module, logged = quiet(make_module(**options), scale=2.0)
    window = make_windows(3, 5)
    loss = module.training_step(window, 0)
    turned = -window.rot90(2, (-2, -1))  # half a turn, of vectors too: the only other element
    forecast, of_turned = (module.forecast(w) / 2 for w in (window, turned))
    penalty = (of_turned + forecast.rot90(2, (-2, -1))).square().mean()
    error = F.mse_loss(forecast, window[:, 2:] / 2)
    torch.testing.assert_close(loss, error + 2 * penalty)
    assert logged["train/penalty"] == pytest.approx(penalty.item())


def test_strict_scores_have_statistics_of_the_strict_network(tmp_path):
    net, data = Normed().eval(), Data()
    for layer in relaxed_layers(net).values():
        nn.init.normal_(layer.relaxed_weights, 1.0, 1.0)
    module, (x, y) = module_of(net), data.val[:]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    (tested,) = make_trainer(tmp_path).test(module, datamodule=data, verbose=False)
    torch.testing.assert_close(dict(net.state_dict()), before, rtol=0, atol=0)
    assert relaxations(net) == {}
    assert tested["test/loss"] == pytest.approx(F.cross_entropy(net(x), y).item(), rel=1e-5)
    with relaxed_by(net, 0.0):
        norm = net.blocks[0][1]
        norm.momentum = 1.0  # the statistics of the one batch
        net.train()(data.train[:][0])
        loss = F.cross_entropy(net.eval()(x), y).item()
    assert tested["test/strict/loss"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relaxation": "learnt"}, "`relaxation` must be a number from 0 to 1; got 'learnt'. Use"),
        ({"relaxation": TriangleSchedule(peak=2.0)}, "`relaxation`.*got 2.0"),
        ({"relaxation": "learned", "net": TinyNetwork()}, "needs a relaxed layer.*TinyNetwork"),
        ({"relaxation": DualAscent(), "net": TinyNetwork()}, "needs a relaxed layer.*TinyNetwork"),
        ({"alpha": 0.1, "penalty": "l2", "net": TinyNetwork()}, "network without relaxed layers"),
        ({"alpha": LinearSchedule(0.0, 1.0), "net": TinyNetwork()}, "without relaxed layers"),
        (
            {"alpha": TriangleSchedule(peak=-1.0)},
            "`alpha` must be a number of at least 0; got -1.0",
        ),
    ],
)
def test_choices_that_do_not_apply_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        module_of(**options)


def test_learned_thetas_cannot_be_optimised_by_lbfgs():
    with pytest.raises(ValueError, match=r"`model.optimizer`.*per-parameter options"):
        module_of(optimizer=torch.optim.LBFGS, relaxation="learned").check_optimizer()
