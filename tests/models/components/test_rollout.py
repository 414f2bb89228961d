from unittest.mock import Mock

import pytest
import torch
from torch import nn

from src.models.components.gcnn import LiftingConv
from src.models.components.rollout import Rollout, roll_out
from tests.helpers.windows import make_windows


def step(x):
    """[B, 2 n, H, W] -> [B, 2, H, W], and no symmetry between the frames."""
    return torch.tanh(0.3 * x[:, :2] - 0.9 * x[:, -2:])


@pytest.mark.parametrize("horizon", [1, 4])
def test_forecasts_are_those_made_by_hand(horizon):
    """Teacher forcing matters from the second frame; the known frames stay as they are."""
    frames = make_windows(3, 6, size=4).double()
    before, known, truth = frames.clone(), frames[:, :2], frames[:, 2 : 2 + horizon]
    free, forced = roll_out(step, known, horizon), roll_out(step, known, horizon, truth)
    for forecasts, following in ((free, free), (forced, truth)):
        seen = torch.cat([known, following], 1)
        expected = [step(seen[:, t : t + 2].flatten(1, 2)) for t in range(horizon)]
        assert torch.equal(forecasts, torch.stack(expected, 1))
    assert torch.equal(free[:, 0], forced[:, 0])
    assert horizon == 1 or (free[:, 1:] - forced[:, 1:]).abs().flatten(2).amax(2).min() > 0.01
    assert torch.equal(frames, before)


class Averaged(LiftingConv):
    """Two scalars for each frame, lifted and averaged over the group."""

    def forward(self, x):
        return super().forward(x).mean(2)


def test_kernels_are_built_once_and_gradients_flow_through_every_frame():
    """Also to weights that `functional_call` swaps, after a kernel of its own ones was kept."""
    torch.manual_seed(0)
    net, known = Averaged(4, 2, 3, "c4"), make_windows(3, 2, size=4)
    net.expanded_fibres = Mock(wraps=net.expanded_fibres)
    rollout = Rollout(net, 3)
    forecasts = rollout(known)
    assert net.expanded_fibres.call_count == 1
    [gradient] = torch.autograd.grad(forecasts.square().sum(), net.weight)
    plain = roll_out(net, known, 3)
    assert net.expanded_fibres.call_count == 4
    [expected] = torch.autograd.grad(plain.square().sum(), net.weight)
    assert torch.equal(forecasts, plain)
    assert torch.allclose(gradient, expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        rollout(known)
        state = {"net.weight": 2 * net.weight, "net.bias": net.bias + 1}
        got = torch.func.functional_call(rollout, state, (known,))
        net.weight.mul_(2)
        net.bias.add_(1)
        assert torch.equal(got, rollout(known))


@pytest.mark.parametrize("horizon", [0, 1.5])
def test_there_is_a_frame_to_forecast(horizon):
    message = rf"`horizon` must be an integer of at least 1; got {horizon}\. Use 1 or more"
    with pytest.raises(ValueError, match=message):
        Rollout(nn.Identity(), horizon)
    with pytest.raises(ValueError, match=message):
        roll_out(step, make_windows(3, 2), horizon)
