import pytest
import torch
from torch import nn

from src.models.components.gcnn import LiftingConv
from src.models.components.rollout import Rollout, roll_out
from src.models.forecasting_module import ForecastingModule
from tests.helpers.windows import TinyForecaster, make_windows

NUM_INPUTS = 2


def step(x):
    """[B, 2 n, H, W] -> [B, 2, H, W], and no symmetry between the frames."""
    return torch.tanh(0.3 * x[:, :2] - 0.9 * x[:, -2:])


def windows(number=3, length=6):
    return make_windows(number, length, size=4).double()


def forecast_by_hand(known, horizon, truth=None):
    """Every forecast from all frames so far, one after the other."""
    frames, forecasts = known, []
    for time in range(horizon):
        last = frames[:, -NUM_INPUTS:]
        forecast = step(torch.cat([last[:, i] for i in range(NUM_INPUTS)], 1))
        forecasts.append(forecast)
        following = forecast if truth is None else truth[:, time]
        frames = torch.cat([frames, following[:, None]], 1)
    return torch.stack(forecasts, 1)


@pytest.mark.parametrize("horizon", [1, 2, 4])
@pytest.mark.parametrize("teacher_forcing", [False, True])
def test_forecasts_are_those_made_by_hand(horizon, teacher_forcing):
    frames = windows()
    known, truth = frames[:, :NUM_INPUTS], frames[:, NUM_INPUTS : NUM_INPUTS + horizon]
    truth = truth if teacher_forcing else None
    result = roll_out(step, known, horizon, truth)
    assert result.shape == (3, horizon, 2, 4, 4)
    assert torch.equal(result, forecast_by_hand(known, horizon, truth))


def test_teacher_forcing_matters_from_the_second_frame():
    frames = windows()
    known, truth = frames.split([2, 4], 1)
    free, forced = roll_out(step, known, 4), roll_out(step, known, 4, truth)
    assert torch.equal(free[:, 0], forced[:, 0])
    assert (free[:, 1:] - forced[:, 1:]).abs().flatten(2).max(2).values.min() > 0.01


def test_the_known_frames_stay_as_they_are():
    frames = windows()
    before = frames.clone()
    roll_out(step, frames[:, :NUM_INPUTS], 3)
    assert torch.equal(frames, before)


def test_a_rollout_is_the_forecast_of_the_module():
    module = ForecastingModule(TinyForecaster(), torch.optim.Adam, num_inputs=NUM_INPUTS)
    module.velocity_scale.fill_(2.5)
    frames = windows().float()
    rollout = Rollout(module.net, 4)
    expected = module.forecast(frames)
    assert torch.equal(rollout(frames[:, :2] / 2.5) * 2.5, expected)
    assert [name for name, _ in rollout.named_parameters()] == [
        name for name, _ in module.named_parameters()
    ]


class Counted(LiftingConv):
    """Two scalars for each frame, lifted and averaged; counts how often its kernel is built."""

    built = 0

    def expanded_kernel(self):
        self.built += 1
        return super().expanded_kernel()

    def forward(self, x):
        return super().forward(x).mean(2)


def test_kernels_are_built_once_and_gradients_flow_through_every_frame():
    torch.manual_seed(0)
    net = Counted(4, 2, 3, "c4", padding="same")
    known = windows()[:, :NUM_INPUTS].float()
    rollout = Rollout(net, 3)(known)
    assert net.built == 1
    [gradient] = torch.autograd.grad(rollout.square().sum(), net.weight)
    plain = roll_out(net, known, 3)
    assert net.built == 4
    [expected] = torch.autograd.grad(plain.square().sum(), net.weight)
    assert torch.equal(rollout, plain)
    assert torch.allclose(gradient, expected, rtol=1e-5, atol=1e-5)


def test_swapped_weights_reach_every_frame():
    torch.manual_seed(0)
    net = Counted(4, 2, 3, "c4", padding="same")
    known = windows()[:, :NUM_INPUTS].float()
    rollout = Rollout(net, 3)
    with torch.no_grad():
        rollout(known)  # a kernel of the net's own weights is kept
        state = {"net.weight": 2 * net.weight, "net.bias": net.bias + 1}
        got = torch.func.functional_call(rollout, state, (known,))
        net.weight.mul_(2)
        net.bias.add_(1)
        assert torch.equal(got, rollout(known))


@pytest.mark.parametrize("horizon", [0, -1, 1.5])
def test_there_is_a_frame_to_forecast(horizon):
    message = rf"`horizon` must be an integer of at least 1; got {horizon}\. Use 1 or more"
    with pytest.raises(ValueError, match=message):
        Rollout(nn.Identity(), horizon)
    with pytest.raises(ValueError, match=message):
        roll_out(step, windows()[:, :2], horizon)
