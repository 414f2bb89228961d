"""What forecasts are trained on: losses, noise on the inputs, a horizon that grows."""

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback

from tests.helpers.tiny import lightning_warnings
from tests.helpers.windows import (
    Growing,
    TinyWindows,
    make_module,
    make_trainer,
    make_windows,
    quiet,
    rms,
    rolled_out,
)

pytestmark = lightning_warnings


def mse(forecast, truth):
    """Mean squared error in units of the scale, 2.5."""
    return ((forecast - truth) / 2.5).square().mean()


def relative(forecast, truth):
    """Of each window, beside the mean square of its frames to forecast."""
    return sum(mse(f, t) / mse(t, 0 * t) for f, t in zip(forecast, truth)) / len(truth)


@pytest.mark.parametrize("teacher_forcing", [False, True])
@pytest.mark.parametrize("loss_of", [mse, relative])
def test_the_loss(teacher_forcing, loss_of):
    """With teacher forcing of true frames, in training alone; the objective has none."""
    name = loss_of.__name__
    options = {"teacher_forcing": teacher_forcing, "loss": name}
    module, logged = quiet(make_module(Growing(), **options), 2.5)
    window = make_windows(3, 5)
    inputs = module.network_inputs(window)
    torch.testing.assert_close(inputs, (window[:, :2] / 2.5).flatten(1, 2))
    loss = module.training_step(window, 0)
    expected = rolled_out(module.net, window, 2, 2.5, teacher_forcing)
    torch.testing.assert_close(loss, loss_of(expected, window[:, 2:]))
    assert logged == dict.fromkeys((f"train/{name}", "train/loss"), pytest.approx(loss.item()))
    module.validation_step(window, 0)
    free = rolled_out(module.net, window, 2, 2.5)
    expected = loss_of(free, window[:, 2:]).item()
    assert logged["val/loss"] == pytest.approx(expected)
    assert logged["val/rmse"] == pytest.approx(rms(free - window[:, 2:]))
    assert module.objective([window]).value() == pytest.approx(expected)


@pytest.mark.parametrize("teacher_forcing", [False, True])
def test_noise_is_on_the_inputs_of_training_alone(teacher_forcing):
    """Of the global generator, in units of the scale; on true frames wherever they are given."""
    options = {"teacher_forcing": teacher_forcing, "input_noise": 0.1}
    module, logged = quiet(make_module(Growing(), **options), 2.5)
    window = make_windows(3, 5)
    torch.manual_seed(3)
    loss = module.training_step(window, 0)
    torch.manual_seed(3)
    noisy = window + 0.1 * 2.5 * torch.randn_like(window)
    expected = rolled_out(module.net, noisy, 2, 2.5, teacher_forcing)
    torch.testing.assert_close(loss, mse(expected, window[:, 2:]))
    module.validation_step(window, 0)
    free = rolled_out(module.net, window, 2, 2.5)
    assert logged["val/loss"] == pytest.approx(mse(free, window[:, 2:]).item())


def test_a_run_grows_its_horizon_and_goes_on_with_the_same_noise(tmp_path, monkeypatch):
    """Two epochs of three steps, of which the first three forecast one frame; the second, twice."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")

    def run(ckpt_path=None, **options):
        module, horizons = make_module(input_noise=0.1, one_step_until=0.5), []
        roll_out = module._roll_out

        def spied(frames, **options):
            horizons.append(frames.shape[1] - 2)
            return roll_out(frames, **options)

        monkeypatch.setattr(module, "_roll_out", spied)
        trainer = make_trainer(tmp_path, max_epochs=2, limit_val_batches=0, **options)
        trainer.fit(module, datamodule=TinyWindows(), ckpt_path=ckpt_path, weights_only=True)
        return module.state_dict(), horizons

    def save(trainer, module):
        trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    whole, horizons = run(callbacks=[LambdaCallback(on_train_epoch_end=save)])
    assert horizons == [1, 1, 1, 3, 3, 3]
    resumed, horizons = run(tmp_path / "0.ckpt")
    assert horizons == [3, 3, 3]
    torch.testing.assert_close(resumed, whole)
