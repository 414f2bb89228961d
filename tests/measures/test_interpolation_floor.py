import math

import pytest
import torch

from src.measures import equivariance_errors
from src.measures.interpolation_floor import (
    interpolation_floor,
    interpolation_floor_per_element,
)
from src.models.components.gcnn import make_group
from src.models.components.gcnn.actions import transform_image


def pictures(num=3, channels=2, size=(7, 7)):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, channels, *size, generator=generator, dtype=torch.float64)


def slow_floor(x, name, interpolation):
    """One sample, one element at a time; the inverse of a turn by a is a turn by n - a."""
    n = int(name[1:])
    means = [0.0]
    for a in range(1, n):
        losses = []
        for sample in x:
            turned = transform_image(sample, name, a, interpolation)
            back = transform_image(turned, name, n - a, interpolation)
            losses.append(math.dist(back.flatten(), sample.flatten()) / math.hypot(*sample.ravel()))
        means.append(sum(losses) / len(losses))
    return means


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("name", ["c3", "c8"])
def test_values_are_those_of_a_slow_twin(name, interpolation):
    x = pictures()
    expected = slow_floor(x, name, interpolation)
    options = {"interpolation": interpolation}
    per_element = interpolation_floor_per_element([x[:2], x[2:]], name, **options)
    assert per_element == pytest.approx(expected, rel=1e-12)
    floor = interpolation_floor([x[:1], x[1:]], name, **options)
    assert floor == pytest.approx(sum(expected) / (len(expected) - 1), rel=1e-12)


def test_known_value_of_the_centre_pixel():
    """Turned by 45 degrees a pixel stays, but a part of it comes to its neighbours."""
    x = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    x[0, 0, 1, 1] = 1.0
    s = math.sqrt(1 / 2)
    neighbour = (1 - s) ** 2  # of the four beside the pixel, which the turn asks for at (s, s)
    beside = neighbour * (1 + 2 * s * (1 - s))
    corner = neighbour * (2 - math.sqrt(2))
    expected = math.sqrt(4 * beside**2 + 4 * corner**2)
    per_element = interpolation_floor_per_element([x], "c8")
    assert per_element == pytest.approx([0, expected] * 4, rel=1e-12)
    assert interpolation_floor([x], "c8") == pytest.approx(expected * 4 / 7, rel=1e-12)


@pytest.mark.parametrize("input", ["scalar", "vector"])
@pytest.mark.parametrize("size", [(7, 7), (8, 8), (5, 8)])
@pytest.mark.parametrize("group", ["c2", "c4", "d1", "d4"])
def test_elements_that_map_the_grid_to_itself_lose_nothing(group, size, input):
    x = pictures(size=size)
    assert interpolation_floor([x], group, input=input) == 0.0
    assert interpolation_floor_per_element([x], group, input=input) == [0.0] * (
        make_group(group).order
    )


def test_only_exact_elements_lose_nothing():
    assert interpolation_floor([pictures()], "c8", elements="exact") == 0.0
    exact = [value == 0.0 for value in interpolation_floor_per_element([pictures()], "d8")]
    assert exact == [True, False] * 8


@pytest.mark.parametrize("group", ["c3", "c8", "d6"])
def test_vectors_lose_what_their_components_lose(group):
    """Turning vectors commutes with interpolation and is undone exactly."""
    x = pictures()
    scalar = interpolation_floor_per_element([x], group)
    assert interpolation_floor_per_element([x], group, input="vector") == pytest.approx(scalar)


def test_it_is_the_other_form_of_the_error_of_the_identity_network():
    """||f(g x) - g f(x)|| is 0 for the identity; ||g^-1 f(g x) - f(x)|| is the floor."""
    x = pictures()
    errors = equivariance_errors(torch.nn.Identity(), [x], "c8", output="scalar")
    assert errors.overall == 0.0
    assert errors.floor == pytest.approx(interpolation_floor([x], "c8"), rel=1e-15)
    assert errors.floor > 0.1


def test_smooth_pictures_lose_less():
    row = torch.arange(33, dtype=torch.float64) - 16
    bump = torch.exp(-(row[:, None] ** 2 + row**2) / 50).expand(1, 1, 33, 33)
    assert interpolation_floor([bump], "c8") < 0.02
    assert interpolation_floor([pictures(size=(33, 33))], "c8") > 0.3


def test_a_picture_of_zeros_loses_nothing():
    assert interpolation_floor([torch.zeros(2, 1, 5, 5)], "c8") == 0.0


def test_batches_with_labels_and_gradients():
    x = pictures()
    labelled = [(x.clone().requires_grad_(), torch.zeros(3))]
    assert interpolation_floor(labelled, "c8") == interpolation_floor([x], "c8")


@pytest.mark.parametrize("measure", [interpolation_floor, interpolation_floor_per_element])
@pytest.mark.parametrize(
    ("x", "group", "options", "match"),
    [
        (pictures(), "c1", {}, r"other than the identity; group 'c1' has none"),
        (pictures(), "c8", {"input": "regular"}, "`input` must be one of scalar, vector; got 'reg"),
        (pictures(), "c8", {"interpolation": "cubic"}, "`interpolation` must be .* got 'cubic'"),
        (pictures(0), "c8", {}, "at least one sample; got none"),
        (pictures(channels=3), "c8", {"input": "vector"}, r"2 C, H, W\]; got \[3, 3, 7, 7\]"),
    ],
)
def test_arguments_are_checked(measure, x, group, options, match):
    with pytest.raises(ValueError, match=match):
        measure([x], group, **options)


def test_an_iterator_serves_once():
    batches = iter([pictures()])
    assert interpolation_floor(batches, "c8") > 0
    with pytest.raises(ValueError, match=r"got none\. Pass a list .* gives its batches only once"):
        interpolation_floor(batches, "c8")
