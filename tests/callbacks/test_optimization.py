import time

import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn.utils import clip_grad_norm_

from src.callbacks import OptimizationDynamics
from src.measures import grad_norm
from tests.helpers.tiny import (
    TinyData,
    TinyModule,
    TinyNetwork,
    dynamics_rows,
    lightning_warnings,
)

pytestmark = lightning_warnings

NAMES = ["grad_norm", "learning_rate", "step_time", "update_ratio"]


def fit(trainer, lr=0.1, **options):
    trainer.fit(TinyModule(TinyNetwork("c4"), lr=lr), datamodule=TinyData(), **options)


def reference(epochs=2, lr=0.1, clip=None, every=1, accumulate=1):
    """The slow twin: plain training, all parameters as one vector, means per epoch."""
    module = TinyModule(TinyNetwork("c4"), lr=lr)
    optimizer = module.configure_optimizers()
    rows, step = [], 0
    for _ in range(epochs):
        norms, ratios = [], []
        for number, batch in enumerate(TinyData().train_dataloader()):
            (module.training_step(batch, 0) / accumulate).backward()
            if (number + 1) % accumulate and number != 2:
                continue
            before = torch.cat([p.detach().flatten() for p in module.parameters()])
            gradient = torch.cat([p.grad.flatten() for p in module.parameters()])
            if clip is not None:
                clip_grad_norm_(module.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
            after = torch.cat([p.detach().flatten() for p in module.parameters()])
            if step % every == 0:
                norms.append(gradient.norm().item())
                ratios.append(((after - before).norm() / before.norm()).item())
            step += 1
        rows.append((sum(norms) / len(norms), sum(ratios) / len(ratios)))
    return rows


@pytest.mark.parametrize(
    ("options", "twin"),
    [
        ({}, {}),
        ({"gradient_clip_val": 0.01}, {"clip": 0.01}),  # the norm is that before clipping
        ({"accumulate_grad_batches": 2}, {"accumulate": 2}),
    ],
)
@pytest.mark.parametrize("every", [1, 2])
def test_values_equal_plain_training(make_trainer, tmp_path, options, twin, every):
    trainer = make_trainer([OptimizationDynamics(every_n_steps=every)], **options)
    fit(trainer)
    rows = dynamics_rows(tmp_path, "grad_norm")
    assert [row["epochs_trained"] for row in rows] == [1, 2]
    expected = reference(every=every, **twin)
    assert [row["dynamics/grad_norm"] for row in rows] == pytest.approx(
        [norm for norm, _ in expected], rel=1e-5
    )
    assert [row["dynamics/update_ratio"] for row in rows] == pytest.approx(
        [ratio for _, ratio in expected], rel=1e-3
    )
    assert [row["dynamics/learning_rate"] for row in rows] == pytest.approx([0.1, 0.1])
    for name in NAMES:
        assert trainer.callback_metrics[f"dynamics/{name}"] == pytest.approx(
            rows[-1][f"dynamics/{name}"]
        )


def test_step_time_is_that_of_a_step(make_trainer):
    class Slow(TinyModule):
        def training_step(self, batch, batch_idx):
            time.sleep(0.02)
            return super().training_step(batch, batch_idx)

    trainer = make_trainer([OptimizationDynamics()], max_epochs=1)
    trainer.fit(Slow(TinyNetwork()), datamodule=TinyData())
    assert 0.02 < trainer.callback_metrics["dynamics/step_time"].item() < 0.5


def test_frozen_parameters_do_not_count(make_trainer):
    """With everything else frozen, the ratio is that of the head alone."""
    module = TinyModule(TinyNetwork("c4"))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("head" in name)
    before = torch.cat([p.detach().flatten() for p in module.net.head.parameters()])
    trainer = make_trainer([OptimizationDynamics()], max_epochs=1, limit_train_batches=1)
    trainer.fit(module, datamodule=TinyData())
    after = torch.cat([p.detach().flatten() for p in module.net.head.parameters()])
    expected = ((after - before).norm() / before.norm()).item()
    got = trainer.callback_metrics["dynamics/update_ratio"].item()
    assert got == pytest.approx(expected, rel=1e-4)


class SaveInEpoch(Callback):
    """Saves a checkpoint in the middle of the second epoch."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 5:
            trainer.save_checkpoint(self.path)


class ResumableLoader(torch.utils.data.DataLoader):
    """A loader that continues where a checkpoint was saved, in the middle of an epoch."""

    skip = 0

    def __iter__(self):
        skip, self.skip = self.skip, 0
        for number, batch in enumerate(super().__iter__()):
            if number >= skip:
                yield batch

    def state_dict(self):
        return {"skip": 2}

    def load_state_dict(self, state):
        self.skip = state["skip"]


class ResumableData(TinyData):
    def train_dataloader(self):
        return ResumableLoader(self.train, batch_size=4)


def test_a_run_resumed_within_an_epoch_logs_the_mean_over_all_of_it(make_trainer, tmp_path):
    path = tmp_path / "middle.ckpt"
    means = []
    for part, resume in (("whole", {}), ("rest", {"ckpt_path": path, "weights_only": True})):
        callbacks = [OptimizationDynamics(), *([] if resume else [SaveInEpoch(path)])]
        trainer = make_trainer(callbacks, folder=tmp_path / part)
        module = TinyModule(TinyNetwork("c4"))
        trainer.fit(module, datamodule=ResumableData(), **resume)
        means.append(dynamics_rows(tmp_path / part, "grad_norm"))
    assert [row["epochs_trained"] for row in means[0]] == [1, 2]
    assert [row["epochs_trained"] for row in means[1]] == [2]
    for name in ("grad_norm", "learning_rate", "update_ratio"):
        got, expected = means[1][0][f"dynamics/{name}"], means[0][1][f"dynamics/{name}"]
        assert got == pytest.approx(expected, rel=1e-6)


@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path.")
def test_a_run_resumed_between_epochs(make_trainer, tmp_path):
    checkpoint = ModelCheckpoint(
        tmp_path / "checkpoints", filename="last", save_on_train_epoch_end=True
    )
    first = [OptimizationDynamics(), checkpoint]
    fit(make_trainer(first, max_epochs=1, folder=tmp_path / "1", enable_checkpointing=True))
    path = tmp_path / "checkpoints" / "last.ckpt"
    second = make_trainer([OptimizationDynamics()], folder=tmp_path / "2")
    fit(second, ckpt_path=path, weights_only=True)
    row = dynamics_rows(tmp_path / "2", "grad_norm")[0]
    assert row["epochs_trained"] == 2
    assert row["dynamics/grad_norm"] == pytest.approx(reference()[1][0], rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"fast_dev_run": True},
        {"logger": False},
        {"num_sanity_val_steps": 2},
        {"overfit_batches": 1},
        {"limit_val_batches": 0},
    ],
)
def test_other_kinds_of_runs(make_trainer, options):
    trainer = make_trainer([OptimizationDynamics()], **options)
    fit(trainer)
    assert all(trainer.callback_metrics[f"dynamics/{name}"] > 0 for name in NAMES)


def test_without_a_measured_step_nothing_is_logged(make_trainer, tmp_path):
    """Step 0 is measured, the three steps of the second epoch are 3, 4 and 5."""
    trainer = make_trainer([OptimizationDynamics(every_n_steps=100)])
    fit(trainer)
    assert [row["epochs_trained"] for row in dynamics_rows(tmp_path, "grad_norm")] == [1]


def test_gradients_are_left_alone(make_trainer):
    class Gradients(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            self.norm = grad_norm(pl_module.parameters())

    probes = [Gradients(), Gradients()]
    fit(make_trainer([probes[0]]))
    fit(make_trainer([OptimizationDynamics(), probes[1]], logger=False))
    assert torch.equal(probes[0].norm, probes[1].norm)


def test_interval_is_checked():
    with pytest.raises(ValueError, match="`every_n_steps` must be an integer of at least 1; got 0"):
        OptimizationDynamics(every_n_steps=0)
