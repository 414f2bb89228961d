"""The equivariance error against the angle."""

import math

import pytest
import torch
from torch import nn

from src.measures.equivariance import (
    equivariance_error,
    equivariance_error_per_element,
    equivariance_errors,
)
from src.measures.interpolation_floor import interpolation_floor_per_element
from src.models.components.classifiers import CNN, GCNN

OPTIONS = {"hidden_channels": 3, "num_layers": 3, "pool_after": [1]}


class Function(nn.Module):
    """Any function of a batch as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def pictures(num=3, channels=1, size=12):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, channels, size, size, generator=generator, dtype=torch.float64)


def curve(function, x, group, **options):
    return equivariance_error_per_element(Function(function), [x], group, **options)


def bump(size=41):
    """A smooth picture, long along a direction between the axes, and its coordinates."""
    column = torch.arange(size, dtype=torch.float64) - size // 2
    row = column[:, None]
    along, across = column + 2 * row, 2 * column - row
    return torch.exp(-(along**2) / 200 - across**2 / 80).expand(1, 1, size, size), column, row


def test_second_moments_turn_with_twice_the_angle():
    """u = <c^2 - r^2> and w = <2 c r> of a turned picture: u' = u cos 2t + w sin 2t."""
    x, column, row = bump()
    u = (x * (column**2 - row**2)).sum().item()
    w = (x * 2 * column * row).sum().item()
    errors = curve(lambda x: (x * (column**2 - row**2)).sum((2, 3)), x, "c36")
    angles = [2 * math.pi * a / 36 for a in range(36)]
    exact = [abs(u * math.cos(2 * t) + w * math.sin(2 * t) - u) / abs(u) for t in angles]
    assert max(exact) > 2
    assert errors == pytest.approx(exact, abs=0.02)


def test_a_constant_vector_lags_behind_by_the_angle():
    """On a picture of one pixel nothing is interpolated: |R v - v| = 2 |sin(t / 2)| |v|."""
    v = torch.tensor([0.6, -0.8], dtype=torch.float64).view(1, 2, 1, 1)
    errors = curve(lambda x: v.expand(len(x), -1, -1, -1), pictures(), "c24", output="vector")
    expected = [2 * abs(math.sin(math.pi * a / 24)) for a in range(24)]
    assert errors == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("kind", ["scalar", "vector"])
def test_the_identity_has_no_error_at_any_angle(kind):
    x = pictures(channels=2)
    assert curve(lambda x: x, x, "c36", input=kind, output=kind) == [0.0] * 36


@pytest.mark.parametrize("group", ["c8", "d4", "c5"])
def test_their_mean_without_the_identity_is_the_error(group):
    network = CNN(**OPTIONS).double()
    batches = [pictures()[:1], pictures()[1:]]
    per_element = equivariance_error_per_element(network, batches, group)
    assert per_element[0] == 0.0
    assert sum(per_element) / (len(per_element) - 1) == pytest.approx(
        equivariance_error(network, batches, group), rel=1e-14
    )


def test_a_strict_network_under_a_finer_group():
    """Quarter turns leave C4's network alone; turns between them do not."""
    torch.manual_seed(0)
    errors = equivariance_error_per_element(
        GCNN(group="c4", **OPTIONS).double(), [pictures()], "c12"
    )
    assert max(errors[::3]) < 1e-12
    assert min(e for a, e in enumerate(errors) if a % 3) > 1e-3
    floors = interpolation_floor_per_element([pictures()], "c12")
    assert [f == 0 for f in floors] == [a % 3 == 0 for a in range(12)]


def test_feature_maps_turn_under_their_own_group_only():
    network = GCNN(group="c4", **OPTIONS).double()
    rule = r"kind 'regular' under group 'c8' must be \[B, C, 8, H, W\]; got \[3, 3, 4, 6, 6\]\."
    fix = "Measure with the network's own group; only fields on the plane, .* under any other"
    with pytest.raises(ValueError, match=f"the network of {rule} {fix}"):
        equivariance_error_per_element(network.blocks, [pictures()], "c8", output="regular")
    with pytest.raises(ValueError, match=rf"blocks\.0 of {rule} {fix}"):
        equivariance_errors(network, [pictures()], "c8")
    own = equivariance_error_per_element(network.blocks, [pictures()], "c4", output="regular")
    assert max(own) < 1e-12


def test_it_needs_another_element_and_a_sample():
    with pytest.raises(ValueError, match="other than the identity; group 'c1' has none"):
        curve(lambda x: x, pictures(), "c1")
    with pytest.raises(ValueError, match="at least one sample; got none"):
        equivariance_error_per_element(nn.Identity(), [], "c4")
