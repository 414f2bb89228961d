from datetime import timedelta

import pytest
from lightning.pytorch.callbacks import EarlyStopping

from src.callbacks.stopping import out_of_time
from tests.helpers.walking import Walking, weight_of


@pytest.mark.parametrize("interval", [4, 3])
def test_training_that_was_stopped_early_has_ended(walk, tmp_path, interval):
    """At the end of an epoch or in the middle of one: no further step however often resumed."""

    def stopping():
        return EarlyStopping("val/score", mode="max", patience=1)

    kept, trainer = walk(stopping(), max_epochs=9, val_check_interval=interval)
    steps, best = trainer.global_step, kept.best
    assert (steps, best["step"]) == {4: (8, 4), 3: (7, 3)}[interval]
    for epochs in (9, 20):
        again, trainer = walk(stopping(), max_epochs=epochs, val_check_interval=3, resume=True)
        assert (trainer.global_step, again.best, again.stopped) == (steps, best, True)
        assert [weight_of(tmp_path / f"{n}.ckpt") for n in ("best", "last")] == [
            best["step"],
            steps,
        ]


class Slow(Walking):
    """Uses up the time limit in its tenth step."""

    def on_train_batch_start(self, batch, batch_idx):
        super().on_train_batch_start(batch, batch_idx)
        if self.trainer.global_step == 9:
            for callback in self.trainer.callbacks:
                callback._offset = 1e6


def test_a_time_limit_takes_back_the_epoch_it_cuts_short(walk, tmp_path):
    """The best of that epoch too; each start has the whole of the limit."""
    limit = {"max_time": timedelta(seconds=1e5), "val_check_interval": 1, "max_epochs": 3}
    kept, trainer = walk(module=Slow(), **limit)
    assert trainer.global_step == 10 and out_of_time(trainer)
    assert (kept.last["step"], kept.best["step"], kept.stopped) == (8, 5, False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]
    kept, trainer = walk(resume=True, **limit)
    assert (trainer.global_step, kept.last["step"], kept.best["step"]) == (12, 12, 5)
    assert not out_of_time(trainer)
