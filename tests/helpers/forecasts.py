"""What every network that forecasts velocity fields must do, at its start."""

import torch
import torch.nn.functional as F

from src.measures import equivariance_errors


def frames(num=3, num_inputs=2, size=10, dtype=torch.float32, seed=0):
    """Random velocity fields [num, 2 num_inputs, size, size] of RMS 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, 2 * num_inputs, size, size, generator=generator, dtype=dtype)


def smooth_frames(num, num_frames, size=10, seed=0):
    """Random smooth fields that drift by one pixel per frame, [num, 2 num_frames, size, size]."""
    field = F.avg_pool2d(frames(num, 1, size + 4, seed=seed), 5, stride=1)
    steps = [field.roll(t, -1) for t in range(num_frames)]
    return torch.cat(steps, 1) / field.square().mean().sqrt()


def num_parameters(network):
    return sum(p.numel() for p in network.parameters())


def assert_counts_exactly(monkeypatch, make_network):
    """Widths follow from a count of parameters that is that of the network with these widths."""
    counted = []

    def resolve(hidden_channels, num_layers, num_parameters, count):
        counted.append(count([3, 1, 4, 2]))
        return [3, 1, 4, 2]

    monkeypatch.setattr("src.models.components.forecaster.resolve_widths", resolve)
    assert [num_parameters(make_network())] == counted


def assert_not_linear(network):
    """f(x + y) - f(0) differs from f(x) - f(0) + f(y) - f(0): not even affine."""
    x, y = frames(seed=1), frames(seed=2)
    with torch.no_grad():
        at_zero = network(torch.zeros_like(x))
        together = network(x + y) - at_zero
        apart = network(x) + network(y) - 2 * at_zero
        change = together - (x + y)[:, -2:]
    assert (together - apart).norm() > 1e-2 * change.norm()


def assert_starts_near_the_last_frame(network, largest=0.2, smallest=1e-4):
    """The RMS of the forecast change, for frames of RMS 1."""
    x = frames()
    with torch.no_grad():
        change = (network(x) - x[:, -2:]).square().mean().sqrt()
    assert smallest < change < largest


def assert_gradients_reach_all_parameters(network):
    x, target = frames(), frames(num_inputs=1, seed=5)
    F.mse_loss(network(x), target).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-8, name


def assert_learns(make_network, num_steps=20):
    """A few steps of Adam bring the error well below that of the untrained network."""
    torch.manual_seed(0)
    network = make_network()
    windows = smooth_frames(8, 3)
    x, target = windows[:, :4], windows[:, 4:]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = F.mse_loss(network(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def assert_measures_work(network):
    errors = equivariance_errors(network, [frames()], "c4", input="vector", output="vector")
    own_group = hasattr(network, "group")
    if own_group:
        assert errors.overall < 1e-5
        assert max(errors.per_layer.values()) < 1e-5
    else:
        assert errors.overall > 1e-4
    assert list(errors.per_layer) == [f"blocks.{n}" for n in range(len(network.blocks))]
