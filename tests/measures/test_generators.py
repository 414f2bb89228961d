import math
from functools import partial

import pytest
import torch

from src.measures.generators import InfinitesimalAction, rotate_group_axis
from src.models.components.gcnn.actions import (
    transform_feature_map,
    transform_image,
    transform_vector_field,
)
from src.models.components.gcnn.groups import make_group
from tests.helpers.slow_lie import T, act


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def blob(size=21, row=-2.0, column=3.0, width=3.0):
    """A smooth spot away from the centre."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return torch.exp(-((axis[:, None] - row) ** 2 + (axis - column) ** 2) / (2 * width**2))


def finite(generator, x, t):
    """exp(t A) x: the motion that an infinitesimal one makes when it goes on, by Taylor terms."""
    terms = [x]
    for n in range(1, 60):
        terms.append(generator(terms[-1]) * t / n)
    return sum(terms)


@pytest.mark.parametrize("size", [(8, 8), (5, 9), (3, 3)])
@pytest.mark.parametrize("transformation", ["rotation", "translation_x", "translation_y"])
@pytest.mark.parametrize(
    ("kind", "shape", "group"),
    [("scalar", (3,), None), ("scalar", (2, 1), "c1"), ("vector", (4,), None)]
    + [("vector+scalar", (6,), None)]
    + [("regular", (2, order), group) for order, group in ((4, "c4"), (6, "d3"), (2, "c2"))],
)
def test_is_the_derivative_of_moving_pictures(kind, shape, group, transformation, size):
    """Random pictures do not vanish at the border, so what enters and leaves counts too."""
    x, num_rotations = random(2, *shape, *size), int(group[1:]) if group else None
    grid = (2 * size[0], 3 * size[1])  # of an input that the map is pooled from
    action = InfinitesimalAction(transformation, grid, group)
    ahead, behind = (act(x, t, transformation, kind, grid, num_rotations) for t in (T, -T))
    torch.testing.assert_close(action(kind, x), (ahead - behind) / (2 * T), rtol=1e-5, atol=1e-6)
    assert action(kind, x.float()).dtype == torch.float32


def test_a_quarter_turn_is_element_1_of_c4():
    v = torch.stack([blob(), 2 * blob(row=2.0)])[None]
    action = InfinitesimalAction("rotation", (21, 21))
    for kind, transform in (("scalar", transform_image), ("vector", transform_vector_field)):
        turned = finite(partial(action, kind), v, math.pi / 2)
        assert (turned - transform(v, "c4", 1)).norm() < 0.05 * v.norm()
        assert (turned - transform(v, "c4", 3)).norm() > v.norm()


@pytest.mark.parametrize("group", ["c3", "d3", "c8", "d4", "c1", "d1", "c2", "d2"])
def test_group_axis_turns_by_the_cayley_table(group):
    """Turned by 2 pi / N, an entry at h is at rh; but for the highest frequency of even N."""
    group, n = make_group(group), int(group[1:])
    x = random(2, 3, group.order, 3, 3)
    if n < 3:  # there is no low frequency
        assert not rotate_group_axis(x, group).any()
        return
    if n % 2 == 0:
        signs = ((-1.0) ** torch.arange(n, dtype=torch.float64)).view(n, 1, 1)
        halves = x.unflatten(2, (-1, n))
        x = (halves - signs * (signs * halves).mean(3, keepdim=True)).flatten(2, 3)
    turned = finite(lambda x: rotate_group_axis(x, group), x, 2 * math.pi / n)
    torch.testing.assert_close(turned, x.index_select(2, group.cayley[group.inverse[1]]))


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("element", [1, 2, 4, 5])
def test_commutes_with_turns_and_mirror_images(element, size):
    """Turning by t and by an element of D4 commute; a mirror image turns the other way."""
    sense = 1 if element < 4 else -1
    action = InfinitesimalAction("rotation", (size, size), "d4")
    cases = {
        "scalar": (random(2, 3, size, size), transform_image),
        "vector": (random(2, 4, size, size), transform_vector_field),
        "regular": (random(2, 3, 8, size, size), transform_feature_map),
    }
    for kind, (x, transform) in cases.items():
        got = action(kind, transform(x, "d4", element))
        torch.testing.assert_close(got, sense * transform(action(kind, x), "d4", element))
