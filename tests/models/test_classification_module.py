from functools import partial

import pytest
import torch
import torch.nn.functional as F
from lightning import Callback, Trainer
from run_fakes import TinyNet
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from src.models.classification_module import ClassificationModule
from src.models.components.gcnn import RelaxedGroupConv, RelaxedLiftingConv
from src.models.components.gcnn.relaxation import relaxation_penalty

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]

SGD = partial(torch.optim.SGD, lr=0.1)


class RelaxedNet(nn.Module):
    """Two relaxed layers with two banks each, whose weights have moved apart."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lift = RelaxedLiftingConv(1, 2, 3, "c4", num_filter_banks=2)
        self.conv = RelaxedGroupConv(2, 3, 3, "c4", num_filter_banks=2)
        with torch.no_grad():
            for layer in (self.lift, self.conv):
                layer.relaxed_weights.normal_()

    def forward(self, x):
        return self.conv(torch.relu(self.lift(x))).amax((2, 3, 4))


def dataset(size=10):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 4, generator=generator)
    return TensorDataset(images, torch.randint(3, (size,), generator=generator))


def still_net():
    """A network without dropout or batch norm, whose outputs do not depend on the batch."""
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def make_trainer(folder, **options):
    defaults = {"accelerator": "cpu", "max_epochs": 1, "logger": False}
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "num_sanity_val_steps": 0}
    return Trainer(default_root_dir=folder, **{**defaults, **quiet, **options})


LOADERS = DataLoader(dataset(), 4), DataLoader(dataset(), 4)


def penalised_loss(alpha):
    torch.manual_seed(1)
    batch = torch.randn(4, 1, 7, 7), torch.tensor([0, 1, 2, 0])
    net = RelaxedNet()
    module = ClassificationModule(net, SGD, alpha=alpha, num_classes=3)
    module.log = lambda *args, **kwargs: None
    return net, module.training_step(batch, 0), F.cross_entropy(net(batch[0]), batch[1])


@pytest.mark.parametrize("alpha", [0.0, 1e-5, 1e-3, 2])
def test_the_loss_is_cross_entropy_plus_alpha_times_the_penalty(alpha):
    net, loss, cross_entropy = penalised_loss(alpha)
    penalty = relaxation_penalty(net)
    assert penalty > 1
    torch.testing.assert_close(loss, cross_entropy + alpha * penalty)


def test_the_penalty_is_linear_in_alpha_and_its_gradient_too():
    gradients, losses = {}, {}
    for alpha in (0, 1, 2):
        net, losses[alpha], _ = penalised_loss(alpha)
        losses[alpha].backward()
        gradients[alpha] = net.conv.relaxed_weights.grad
    torch.testing.assert_close(losses[2] - losses[0], 2 * (losses[1] - losses[0]))
    torch.testing.assert_close(gradients[2] - gradients[0], 2 * (gradients[1] - gradients[0]))
    assert (gradients[1] - gradients[0]).abs().max() >= 1, "a sum of signs, not of differences"


def test_epoch_averages_weigh_samples_and_not_batches(tmp_path):
    data = dataset(10)  # batches of 4, 4 and 2
    loader = DataLoader(data, 4)
    net = still_net()
    module = ClassificationModule(net, partial(torch.optim.SGD, lr=0.0), num_classes=3)
    trainer = make_trainer(tmp_path)
    trainer.fit(module, loader, loader)
    logits, labels = net(data.tensors[0]), data.tensors[1]
    loss = F.cross_entropy(logits, labels).item()
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    per_batch = [F.cross_entropy(net(x), y).item() for x, y in loader]
    assert sum(per_batch) / 3 != pytest.approx(loss, rel=1e-3), "else this test tests nothing"
    for split in ("train", "val"):
        assert trainer.callback_metrics[f"{split}/loss"].item() == pytest.approx(loss, rel=1e-6)
        assert trainer.callback_metrics[f"{split}/acc"].item() == pytest.approx(accuracy)
    assert trainer.callback_metrics["train/cross_entropy"].item() == pytest.approx(loss, rel=1e-6)
    (tested,) = trainer.test(module, loader, verbose=False)
    assert tested["test/loss"] == pytest.approx(loss, rel=1e-6)
    assert tested["test/acc"] == pytest.approx(accuracy)


def test_validation_loss_has_no_penalty_and_the_penalty_is_logged(tmp_path):
    images, labels = torch.randn(4, 1, 5, 5), torch.tensor([0, 1, 2, 0])
    loader = DataLoader(TensorDataset(images, labels), 4)
    net = RelaxedNet()
    still = partial(torch.optim.SGD, lr=0.0)
    module = ClassificationModule(net, still, alpha=0.5, num_classes=3)
    trainer = make_trainer(tmp_path)
    trainer.fit(module, loader, loader)
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    penalty = relaxation_penalty(net).item()
    assert metrics["train/penalty"] == pytest.approx(penalty)
    assert metrics["val/loss"] == pytest.approx(metrics["train/cross_entropy"], rel=1e-5)
    assert metrics["train/loss"] - metrics["train/cross_entropy"] == pytest.approx(penalty / 2)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_networks_without_relaxed_layers_have_the_penalty_zero(tmp_path, alpha):
    module = ClassificationModule(TinyNet(), SGD, alpha=alpha, num_classes=3)
    trainer = make_trainer(tmp_path)
    trainer.fit(module, *LOADERS)
    assert trainer.callback_metrics["train/penalty"] == 0


ONE_CYCLE = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1)
COSINE = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=3)
EXPONENTIAL = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)


@pytest.mark.parametrize(
    ("scheduler", "interval", "steps", "expected"),
    [
        (ONE_CYCLE, None, 9, "step"),
        (EXPONENTIAL, None, 3, "epoch"),
        (EXPONENTIAL, "step", 9, "step"),
        (COSINE, None, 3, "epoch"),
    ],
)
def test_schedules_advance_each_step_or_epoch(tmp_path, scheduler, interval, steps, expected):
    module = ClassificationModule(
        still_net(), SGD, scheduler, scheduler_interval=interval, num_classes=3
    )
    trainer = make_trainer(tmp_path, max_epochs=3)
    trainer.fit(module, *LOADERS)
    (configured,) = trainer.lr_scheduler_configs
    assert configured.interval == expected
    assert configured.scheduler.last_epoch == steps


class LearningRates(Callback):
    """Notes the learning rate of every step."""

    def __init__(self):
        self.noted = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.noted.append(optimizer.param_groups[0]["lr"])


def test_a_schedule_over_the_run_ends_with_it(tmp_path):
    module = ClassificationModule(still_net(), SGD, ONE_CYCLE, num_classes=3)
    rates = LearningRates()
    make_trainer(tmp_path, max_epochs=3, callbacks=[rates]).fit(module, *LOADERS)
    assert len(rates.noted) == 9
    assert max(rates.noted) > 0.05
    assert rates.noted[-1] == pytest.approx(0.1 / 25 / 1e4)


def test_a_schedule_of_fixed_length_keeps_it(tmp_path):
    fixed = partial(ONE_CYCLE, total_steps=100)
    module = ClassificationModule(still_net(), SGD, fixed, num_classes=3)
    trainer = make_trainer(tmp_path)
    trainer.fit(module, *LOADERS)
    assert trainer.lr_scheduler_configs[0].scheduler.total_steps == 100
    assert trainer.lr_scheduler_configs[0].interval == "step"


def test_a_schedule_over_the_run_is_laid_out_anew_for_a_longer_run(tmp_path):
    def fit(epochs, path=None):
        module = ClassificationModule(still_net(), SGD, ONE_CYCLE, num_classes=3)
        rates = LearningRates()
        trainer = make_trainer(tmp_path, max_epochs=epochs, callbacks=[rates])
        trainer.fit(module, *LOADERS, ckpt_path=path, weights_only=True)
        trainer.save_checkpoint(tmp_path / "a.ckpt")
        return rates.noted

    whole = fit(4)
    fit(2)
    resumed = fit(4, tmp_path / "a.ckpt")
    assert resumed[1:] == pytest.approx(whole[7:])  # the first is still the checkpoint's


def test_without_a_schedule_the_learning_rate_stays(tmp_path):
    module = ClassificationModule(still_net(), SGD, num_classes=3)
    trainer = make_trainer(tmp_path)
    trainer.fit(module, *LOADERS)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.1
    assert trainer.lr_scheduler_configs == []


def test_compiling_keeps_the_names_of_parameters(monkeypatch):
    called = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: called.append(type(self)))
    module = ClassificationModule(TinyNet(), SGD, compile=True)
    names = list(module.state_dict())
    module.setup("fit")
    assert called == [TinyNet]
    assert list(module.state_dict()) == names
    module.setup("test")
    assert called == [TinyNet]


def test_forward_gives_the_networks_logits():
    net = still_net()
    x = torch.randn(2, 4)
    assert torch.equal(ClassificationModule(net, SGD)(x), net(x))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"alpha": -1e-5}, ValueError, "`alpha`.* must be a number of at least 0; got -1e-05"),
        ({"alpha": float("nan")}, ValueError, "`alpha`.* of at least 0; got nan"),
        ({"alpha": float("inf")}, ValueError, "`alpha`.* of at least 0; got inf"),
        ({"alpha": "much"}, TypeError, "`alpha`.* of at least 0; got 'much'"),
        ({"alpha": True}, TypeError, "`alpha`.* of at least 0; got True"),
        ({"alpha": None}, TypeError, "`alpha`.* of at least 0; got None"),
        ({"optimizer": None}, TypeError, "`optimizer` must be a function.*got NoneType"),
        ({"scheduler": 3}, TypeError, "`scheduler` must be a function.*Add `_partial_: true`"),
        ({"scheduler_interval": "day"}, ValueError, "`scheduler_interval` must be step, epoch"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ClassificationModule(**{"net": still_net(), "optimizer": SGD, **arguments})


def plain_net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(("make_net", "channels"), [(RelaxedNet, 1), (plain_net, 3)])
def test_channels_last_does_not_change_the_result(make_net, channels):
    net, images = make_net(), torch.randn(4, channels, 7, 7)
    expected = ClassificationModule(net, SGD)(images)
    torch.testing.assert_close(ClassificationModule(net, SGD, channels_last=True)(images), expected)


def test_channels_last_reaches_images_and_weights():
    net, seen = plain_net(), []
    net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ClassificationModule(net, SGD, channels_last=True)(torch.randn(4, 3, 7, 7))
    for tensor in (seen[0], net[0].weight):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
