from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from src.models.classification_module import ClassificationModule
from src.models.components.gcnn.relaxation import (
    relaxation_penalty,
    relaxed_layers,
    set_relaxation,
)
from tests.helpers.tiny import TinyNetwork, lightning_warnings
from tests.helpers.windows import make_trainer

pytestmark = lightning_warnings

STILL = partial(torch.optim.SGD, lr=0.0)


def relaxed_net():
    """Relaxed layers whose weights have moved apart."""
    net = TinyNetwork("c4")
    for layer in relaxed_layers(net).values():
        nn.init.normal_(layer.relaxed_weights)
    return net


def test_the_loss_is_cross_entropy_plus_alpha_times_the_penalty():
    """Linear in alpha, and its gradient too; the objective has none of it."""
    torch.manual_seed(1)
    batch = images, labels = torch.randn(4, 1, 7, 7), torch.tensor([0, 1, 2, 0])
    gradients = {}
    for alpha in (0.0, 1e-5, 1, 2):
        net = relaxed_net()
        module = ClassificationModule(net, STILL, alpha=alpha)
        module.log = lambda *args, **kwargs: None
        loss, penalty = module.training_step(batch, 0), relaxation_penalty(net)
        cross_entropy = F.cross_entropy(net(images), labels)
        assert penalty > 1
        torch.testing.assert_close(loss, cross_entropy + alpha * penalty)
        loss.backward()
        gradients[alpha] = net.blocks[1].relaxed_weights.grad
        assert module.network_inputs(batch) is images
        assert torch.equal(module(images), net(images))
        assert module.objective([batch]).value() == pytest.approx(cross_entropy.item())
    torch.testing.assert_close(gradients[2] - gradients[0], 2 * (gradients[1] - gradients[0]))
    assert (gradients[1] - gradients[0]).abs().max() >= 1, "a sum of signs, not of differences"


def test_epoch_averages_weigh_samples_and_not_batches(tmp_path):
    """The penalty counts in the training loss alone."""
    generator, net = torch.Generator().manual_seed(0), relaxed_net()
    x = torch.randn(10, 1, 5, 5, generator=generator)
    y = torch.randint(3, (10,), generator=generator)
    loader = DataLoader(TensorDataset(x, y), 4)  # batches of 4, 4 and 2
    module = ClassificationModule(net, STILL, alpha=0.5)
    trainer = make_trainer(tmp_path)
    trainer.fit(module, loader, loader)
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    loss, penalty = F.cross_entropy(net(x), y).item(), relaxation_penalty(net).item()
    accuracy = (net(x).argmax(1) == y).float().mean().item()
    per_batch = [F.cross_entropy(net(x), y).item() for x, y in loader]
    assert sum(per_batch) / 3 != pytest.approx(loss, rel=1e-3), "else this test tests nothing"
    expected = {"train/loss": loss + penalty / 2, "train/cross_entropy": loss, "val/loss": loss}
    expected |= {"train/acc": accuracy, "val/acc": accuracy, "train/penalty": penalty}
    assert metrics == pytest.approx(expected, rel=1e-5)
    (tested,) = trainer.test(module, loader, verbose=False)
    scores = {"test/loss": loss, "test/acc": accuracy}
    set_relaxation(net, 0.0)
    strict = {"test/strict/loss": F.cross_entropy(net(x), y).item()}
    strict["test/strict/acc"] = (net(x).argmax(1) == y).float().mean().item()
    assert strict["test/strict/loss"] != pytest.approx(loss, rel=1e-3)
    assert tested == pytest.approx(scores | strict, rel=1e-5)
