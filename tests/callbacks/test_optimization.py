import time
from itertools import islice, pairwise

import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from src.callbacks import OptimizationDynamics
from src.measures import kernels, update_ratio
from tests.helpers.tiny import TinyData, TinyModule, TinyNetwork, dynamics_rows

NAMES = ["grad_norm", "learning_rate", "step_time", "update_ratio"]


def make_module(frozen=None):
    """A module of which one part is not trained."""
    module = TinyModule(TinyNetwork("c4"))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(frozen is None or frozen not in name)
    return module


def reference(clip=None, every=1, accumulate=1, frozen=None):
    """The slow twin: plain training, all parameters as one vector, means per epoch."""
    module = make_module(frozen)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = module.configure_optimizers()
    rows, step = [], 0
    for _ in range(2):
        norms, ratios = [], []
        for number, batch in enumerate(TinyData().train_dataloader()):
            (module.training_step(batch, 0) / accumulate).backward()
            if (number + 1) % accumulate and number != 2:
                continue
            before = torch.cat([p.detach().flatten() for p in parameters])
            gradient = torch.cat([p.grad.flatten() for p in parameters])
            if clip is not None:
                clip_grad_norm_(parameters, clip)
            optimizer.step()
            optimizer.zero_grad()
            after = torch.cat([p.detach().flatten() for p in parameters])
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
        ({}, {"every": 2}),
        ({}, {"frozen": "blocks"}),  # the ratio is that of the head alone
        ({"gradient_clip_val": 0.01}, {"clip": 0.01}),  # the norm is that before clipping
        ({"accumulate_grad_batches": 2}, {"accumulate": 2}),
    ],
)
def test_values_equal_plain_training(make_trainer, tmp_path, options, twin):
    trainer = make_trainer([OptimizationDynamics(twin.get("every", 1))], **options)
    trainer.fit(make_module(twin.get("frozen")), datamodule=TinyData())
    rows = dynamics_rows(tmp_path, "grad_norm")
    norms, ratios = zip(*reference(**twin))
    assert [row["epochs_trained"] for row in rows] == [1, 2]
    assert [row["dynamics/grad_norm"] for row in rows] == pytest.approx(norms, rel=1e-5)
    assert [row["dynamics/update_ratio"] for row in rows] == pytest.approx(ratios, rel=1e-3)
    assert [row["dynamics/learning_rate"] for row in rows] == pytest.approx([0.1, 0.1])
    for name in (f"dynamics/{name}" for name in NAMES):
        assert trainer.callback_metrics[name] == pytest.approx(rows[-1][name])


def test_step_time_is_that_of_a_step(make_trainer):
    trainer, module = make_trainer([OptimizationDynamics()], max_epochs=1), make_module()
    module.net.register_forward_pre_hook(lambda *_: time.sleep(0.02))
    trainer.fit(module, datamodule=TinyData())
    assert 0.02 < trainer.callback_metrics["dynamics/step_time"].item() < 0.5


class ResumableLoader(torch.utils.data.DataLoader):
    """A loader that continues where a checkpoint was saved, two batches into an epoch."""

    skip = 0

    def __iter__(self):
        skip, self.skip = self.skip, 0
        yield from islice(super().__iter__(), skip, None)

    def state_dict(self):
        return {"skip": 2}

    def load_state_dict(self, state):
        self.skip = state["skip"]


def test_a_run_resumed_within_an_epoch_logs_the_mean_over_all_of_it(make_trainer, tmp_path):
    path, rows, data = tmp_path / "middle.ckpt", [], TinyData()
    data.train_dataloader = lambda: ResumableLoader(data.train, batch_size=4)

    class Saving(TinyModule):
        def on_train_batch_end(self, *_):
            if self.trainer.global_step == 5 and not path.exists():
                self.trainer.save_checkpoint(path)

    for part, resume in (("whole", {}), ("rest", {"ckpt_path": path, "weights_only": True})):
        trainer = make_trainer([OptimizationDynamics()], folder=tmp_path / part)
        trainer.fit(Saving(TinyNetwork("c4")), datamodule=data, **resume)
        rows.append(dynamics_rows(tmp_path / part, "grad_norm"))
    whole, rest = rows
    assert [[row["epochs_trained"] for row in part] for part in rows] == [[1, 2], [2]]
    assert ["dynamics/first_step" in row for part in rows for row in part] == [True, False, False]
    for name in ("dynamics/grad_norm", "dynamics/learning_rate", "dynamics/update_ratio"):
        assert rest[0][name] == pytest.approx(whole[1][name], rel=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("group", [None, "c4"])
def test_the_first_step_is_the_change_of_the_expanded_kernels(
    make_trainer, tmp_path, group, accumulate
):
    """Against plain training; logged with the first epoch alone."""
    trainer = make_trainer([OptimizationDynamics(2)], accumulate_grad_batches=accumulate)
    trainer.fit(TinyModule(TinyNetwork(group)), datamodule=TinyData())

    module = TinyModule(TinyNetwork(group))
    before, batches = kernels(module.net), islice(TinyData().train_dataloader(), accumulate)
    for batch in batches:
        (module.training_step(batch, 0) / accumulate).backward()
    module.configure_optimizers().step()
    layers = ["blocks.0.0", "blocks.1"]
    assert list(before) == layers
    after = {
        name: layer.weight if group is None else layer.expanded_kernel()
        for name, layer in module.net.named_modules()
        if name in layers
    }
    expected = {
        f"dynamics/first_step/{name}": ((after[name] - before[name]).norm() / before[name].norm())
        for name in layers
    }
    expected["dynamics/first_step"] = sum(expected.values()) / 2
    first, second = dynamics_rows(tmp_path, "grad_norm")
    found = {name: value for name, value in first.items() if "first_step" in name}
    assert found == pytest.approx({name: e.item() for name, e in expected.items()}, rel=1e-4)
    assert not any("first_step" in name for name in second)


def test_interval_of_measured_steps(make_trainer, tmp_path):
    trainer = make_trainer([OptimizationDynamics(every_n_steps=100)])
    trainer.fit(TinyModule(TinyNetwork()), datamodule=TinyData())
    assert [row["epochs_trained"] for row in dynamics_rows(tmp_path, "grad_norm")] == [1]

    with pytest.raises(ValueError, match="`every_n_steps` must be an integer of at least 1; got 0"):
        OptimizationDynamics(every_n_steps=0)


def test_a_step_that_evaluates_a_batch_several_times_counts_once(make_trainer, tmp_path):
    """As of L-BFGS: its update is from before the first evaluation to after the last."""
    weights = []

    class Noted(TinyModule):
        def on_train_batch_start(self, *_):
            weights.append([p.detach().clone() for p in self.parameters()])

        on_train_end = on_train_batch_start

    module = Noted(TinyNetwork(), torch.optim.LBFGS, lr=0.01)
    make_trainer([OptimizationDynamics()], max_epochs=1).fit(module, datamodule=TinyData())
    (row,) = dynamics_rows(tmp_path, "update_ratio")
    ratios = [update_ratio(before, after) for before, after in pairwise(weights)]
    assert row["dynamics/update_ratio"] == pytest.approx(sum(ratios).item() / 3, rel=1e-5)
