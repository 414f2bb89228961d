from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from src.callbacks import EquivarianceError, LieDerivative, ReestimatedStatistics
from src.callbacks.averaging import ExponentialAverage
from src.callbacks.checkpoints import AtomicCheckpointIO, BestAndLastCheckpoint
from src.callbacks.probe import ProbeCallback
from src.callbacks.subset import training_sample
from src.data.images import ImageDataModule
from src.measures import Reading, preserved_rng
from src.measures.batch_norm import statistics_of
from src.models.classification_module import ClassificationModule
from src.models.components.gcnn import GroupBatchNorm
from src.models.forecasting_module import ForecastingModule
from tests.helpers.tiny import TinyData, TinyNetwork, read_metrics
from tests.helpers.windows import TinyForecaster, TinyWindows

ADAM = partial(torch.optim.Adam, lr=0.05)


class Digits(ImageDataModule):
    """13 training and 7 validation images, turned by new angles in every epoch."""

    num_classes, image_shape = 3, (1, 6, 6)

    def __init__(self):
        super().__init__(batch_size=4, augment=True)

    def read_parts(self):
        images = torch.rand(27, 1, 6, 6, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(27) % 3
        parts = {"train": slice(13), "val": slice(13, 20), "test": slice(20, 27)}
        return {name: (images[rows], labels[rows]) for name, rows in parts.items()}


def classifier(normed=True):
    net = TinyNetwork("c4")
    if normed:
        net.blocks[0].append(GroupBatchNorm(2))
        net.blocks.append(GroupBatchNorm(2))
        net.head = nn.Sequential(nn.Dropout(), net.head)
    return ClassificationModule(net, ADAM)


class NormedForecaster(TinyForecaster):
    def __init__(self):
        super().__init__()
        self.blocks[0].append(nn.BatchNorm2d(4))


def forecaster():
    return ForecastingModule(NormedForecaster(), ADAM, num_inputs=2)


@pytest.fixture
def fit(make_trainer, tmp_path):
    """Train; the module, the checkpoint callback, and the trainer."""

    def fit(
        make=classifier, data=Digits, score="loss", more=(), resume=False, place="a", **options
    ):
        torch.manual_seed(0)
        kept = BestAndLastCheckpoint(str(tmp_path / place), f"val/{score}_reestimated", "min")
        callbacks = [ReestimatedStatistics(12), *more, kept]
        options = {"enable_checkpointing": True, "plugins": [AtomicCheckpointIO()]} | options
        trainer, module = make_trainer(callbacks, folder=tmp_path / place, **options), make()
        path = tmp_path / place / "last.ckpt" if resume else None
        trainer.fit(module, datamodule=data(), ckpt_path=path, weights_only=True)
        return module, kept, trainer

    return fit


def slow_statistics(module, batches):
    """Means over batches of what batch norms are given in training mode, by name."""
    net, given = deepcopy(module.objective(batches).network).train(), {}
    for name, norm in net.named_modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            inputs = given["net." + name.removeprefix("net.")] = []
            norm.register_forward_pre_hook(lambda _, x, inputs=inputs: inputs.append(x[0]))
    with preserved_rng(), torch.no_grad():
        for inputs, _ in module.objective(batches).data:
            net(inputs)
    means, found = lambda tensors: torch.stack(tensors).mean(0), {}
    for name, inputs in given.items():
        rows = [x.transpose(0, 1).flatten(1) for x in inputs]
        found[f"{name}.running_mean"] = means([x.mean(1) for x in rows])
        found[f"{name}.running_var"] = means([x.var(1) for x in rows])
    return found


@pytest.mark.parametrize(
    ("make", "data", "score", "options"),
    [
        (classifier, Digits, "loss", {}),
        (classifier, TinyData, "loss", {"val_check_interval": 2}),
        (classifier, Digits, "acc", {"precision": "bf16-mixed", "limit_val_batches": 1}),
        (classifier, Digits, "acc", {"precision": "bf16-true"}),
        (classifier, Digits, "loss", {"more": [ExponentialAverage(0.5)]}),
        (forecaster, TinyWindows, "rmse", {}),
    ],
)
def test_the_best_checkpoint_scores_exactly_what_it_was_chosen_for(
    fit, make_trainer, tmp_path, make, data, score, options
):
    """With statistics of the weights as they are; the last one keeps those of training."""
    _, kept, trainer = fit(make, data, score, **options)
    options = {n: v for n, v in options.items() if n in ("precision", "limit_val_batches")}
    evaluator = make_trainer([], logger=False, **options)
    for which, record in (("best", kept.best), ("last", kept.last)):
        stored, module = torch.load(tmp_path / "a" / f"{which}.ckpt"), make()
        module.load_state_dict(stored["state_dict"])
        scored = evaluator.validate(module, data(), verbose=False)[0]
        end = "_reestimated" if which == "best" else ""
        if f"val/{score}{end}" in record["metrics"]:
            for name, value in scored.items():
                assert record["metrics"][f"{name}{end}"] == value
        expected = slow_statistics(module.float(), training_sample(trainer, 12))
        for name, value in expected.items():
            found = stored["state_dict"][name]
            rtol = 1e-4 if found.dtype == torch.float32 else 1e-2
            close = torch.allclose(found.float(), value, rtol=rtol, atol=1e-5)
            assert close == (which == "best"), name
    logged = {name for row in read_metrics(tmp_path / "a") for name in row}
    assert logged >= {f"val/{score}", f"val/{score}_reestimated"}


@pytest.mark.parametrize(("more", "weights"), [((), 3), ((ExponentialAverage(0.5),), 5)])
def test_the_same_weights_are_estimated_once(fit, more, weights):
    """For validation and every measure; averages are weights of their own."""
    module, runs = classifier(), []
    module.net.register_forward_hook(
        lambda net, *_: runs.append((net.training, torch.is_grad_enabled()))
    )
    measures = [kind("val", every_n_epochs=1) for kind in (EquivarianceError, LieDerivative)]
    fit(lambda: module, more=[*measures, *more])
    assert runs.count((True, False)) == 3 * weights
    assert runs.count((True, True)) == 2 * 4


class Seen(ProbeCallback):
    """Keeps what a measure is given, beside what it should be."""

    def __init__(self):
        super().__init__("val", every_n_epochs=1)
        self.given, self.expected = [], []

    def probe(self, subject):
        self.given.append(deepcopy(statistics_of(subject.module)))
        self.expected.append(slow_statistics(subject.module, subject.statistics))
        return Reading({})


def test_measures_see_the_statistics_and_training_does_not(fit, make_trainer):
    """Nor do the order of the samples, their augmentation and dropout: bit for bit."""
    seen = Seen()
    module, random = fit(more=[seen])[0], torch.rand(3)
    for given, expected in zip(seen.given, seen.expected, strict=True):
        torch.testing.assert_close({name: given[name] for name in expected}, expected)
    assert len(seen.given) == 3
    torch.manual_seed(0)
    plain = classifier()
    make_trainer([], logger=False).fit(plain, datamodule=Digits())
    assert torch.equal(torch.rand(3), random)
    assert all(map(torch.equal, plain.state_dict().values(), module.state_dict().values()))


def test_a_resumed_run_goes_on_bit_for_bit(fit, tmp_path, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    whole = fit(max_epochs=4, logger=False)[1]
    fit(max_epochs=2, logger=False, place="b")
    parts = fit(max_epochs=4, logger=False, place="b", resume=True)[1]
    assert parts.best == whole.best and parts.last == whole.last
    for which in ("best", "last"):
        states = [torch.load(tmp_path / p / f"{which}.ckpt")["state_dict"] for p in "ab"]
        assert all(map(torch.equal, states[0].values(), states[1].values()))


def test_without_batch_norm_scores_are_logged_twice_and_nothing_is_run(fit):
    module, runs = classifier(normed=False), []
    module.net.register_forward_hook(lambda net, *_: runs.append(net.training))
    _, kept, trainer = fit(lambda: module, score="acc")
    assert (runs.count(True), runs.count(False)) == (2 * 4, 2 * 2)
    metrics = trainer.callback_metrics
    for name in ("val/loss", "val/acc"):
        assert metrics[f"{name}_reestimated"] == metrics[name]
    assert kept.best["metrics"]["val/acc_reestimated"] == kept.best["metrics"]["val/acc"]


def test_arguments_are_checked():
    for options in ({"num_samples": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be an integer of at"):
            ReestimatedStatistics(**options)
