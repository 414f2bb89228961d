import math

import pytest
import torch

from src.measures.generators import (
    InfinitesimalAction,
    rotate_group_axis,
    rotate_plane,
    rotate_vectors,
    translate_plane,
)
from src.models.components.gcnn.actions import (
    transform_feature_map,
    transform_image,
    transform_vector_field,
)
from src.models.components.gcnn.groups import make_group
from tests.helpers.slow_lie import T, act

TRANSFORMATIONS = ("rotation", "translation_x", "translation_y")


def random(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def blob(size=21, row=-2.0, column=3.0, width=3.0):
    """A smooth spot away from the centre."""
    coordinates = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    rows, columns = torch.meshgrid(coordinates, coordinates, indexing="ij")
    return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * width**2))


def finite(generator, x, t):
    """exp(t A) x: the motion that an infinitesimal one makes when it goes on, by Taylor terms."""
    total, term = x, x
    for n in range(1, 60):
        term = generator(term) * t / n
        total = total + term
    return total


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (5, 9), (3, 3)])
@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize(
    ("kind", "shape", "group"),
    [
        ("scalar", (3,), None),
        ("vector", (4,), None),
        ("regular", (2, 4), "c4"),
        ("regular", (2, 5), "c5"),
        ("regular", (2, 8), "d4"),
        ("regular", (2, 6), "d3"),
        ("regular", (2, 2), "c2"),
        ("scalar", (2, 1), "c1"),
    ],
)
def test_is_the_derivative_of_moving_pictures(kind, shape, group, transformation, size):
    """Random pictures do not vanish at the border, so what enters and leaves counts too."""
    x = random(2, *shape, *size)
    grid = (2 * size[0], 3 * size[1])  # of an input that the map is pooled from
    num_rotations = int(group[1:]) if group else None
    got = InfinitesimalAction(transformation, grid, group)(kind, x)
    ahead = act(x, T, transformation, kind, grid, num_rotations)
    behind = act(x, -T, transformation, kind, grid, num_rotations)
    torch.testing.assert_close(got, (ahead - behind) / (2 * T), rtol=1e-5, atol=1e-6)


def test_invariants_do_not_move():
    action = InfinitesimalAction("rotation", (5, 5))
    torch.testing.assert_close(action("invariant", random(2, 3)), torch.zeros(2, 3).double())


def test_coordinates_turn_counter_clockwise():
    """The column of what arrives at a pixel is column - t row, its row is row + t column."""
    axis = torch.arange(7, dtype=torch.float64) - 3
    row, column = torch.meshgrid(axis, axis, indexing="ij")
    inner = (slice(1, -1), slice(1, -1))
    torch.testing.assert_close(rotate_plane(column)[inner], -row[inner])
    torch.testing.assert_close(rotate_plane(row)[inner], column[inner])


def test_a_quarter_turn_is_element_1_of_c4():
    x = blob()
    turned = finite(rotate_plane, x, math.pi / 2)
    assert (turned - torch.rot90(x, 1, (-2, -1))).norm() < 0.05 * x.norm()
    assert (turned - torch.rot90(x, -1, (-2, -1))).norm() > x.norm()


def test_a_quarter_turn_of_vectors_is_element_1_of_c4():
    v = torch.stack([blob(), 2 * blob(row=2.0)])[None]
    action = InfinitesimalAction("rotation", (21, 21))
    turned = finite(lambda v: action("vector", v), v, math.pi / 2)
    expected = transform_vector_field(v, "c4", 1)
    assert (turned - expected).norm() < 0.05 * v.norm()


def test_vectors_turn_by_the_matrices_of_the_group():
    v = random(1, 2, 4, 4)
    turned = finite(rotate_vectors, v, 2 * math.pi / 8)
    expected = torch.einsum("ij,bjhw->bihw", make_group("c8").matrices[1], v)
    torch.testing.assert_close(turned, expected)


@pytest.mark.parametrize("group", ["c3", "c5", "d3", "c4", "c8", "d4"])
def test_group_axis_turns_by_the_cayley_table(group):
    """Turned by 2 pi / N, an entry at h is at rh; but for the highest frequency of even N."""
    group = make_group(group)
    num_rotations = int(group.name[1:])
    x = random(2, 3, group.order, 3, 3)
    if num_rotations % 2 == 0:
        signs = (-1.0) ** torch.arange(num_rotations, dtype=torch.float64)
        halves = x.unflatten(2, (-1, num_rotations))
        highest = torch.einsum("a,ncmahw->ncmhw", signs, halves) / num_rotations
        x = (halves - torch.einsum("a,ncmhw->ncmahw", signs, highest)).flatten(2, 3)
    turned = finite(lambda x: rotate_group_axis(x, group), x, 2 * math.pi / num_rotations)
    expected = x.index_select(2, group.cayley[group.inverse[1]])
    torch.testing.assert_close(turned, expected)


@pytest.mark.parametrize("group", ["c1", "c2", "d1", "d2"])
def test_groups_without_a_low_frequency_do_not_turn(group):
    x = random(1, 2, make_group(group).order, 3, 3)
    torch.testing.assert_close(rotate_group_axis(x, group), torch.zeros_like(x))


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("element", range(8))
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


def test_rotations_keep_norms_to_first_order():
    """A is antisymmetric: the derivative of |x|^2 is 2 x . A x = 0, border or not."""
    x = random(3, 2, 8, 6)
    assert (x * rotate_plane(x)).sum().abs() < 1e-12
    assert (x * translate_plane(x, -1)).sum().abs() < 1e-12


@pytest.mark.parametrize(("transformation", "axis"), [("translation_x", -1), ("translation_y", -2)])
def test_pictures_move_along_increasing_index(transformation, axis):
    x = blob()[None, None]
    action = InfinitesimalAction(transformation, (21, 21))
    moved = finite(lambda x: action("scalar", x), x, 2.0)
    assert (moved - x.roll(2, axis)).norm() < 0.1 * x.norm()


@pytest.mark.parametrize("kind", ["scalar", "vector", "regular"])
def test_pooled_maps_move_by_fewer_pixels(kind):
    x = random(2, 4, 4, 6, 5) if kind == "regular" else random(2, 4, 6, 5)
    whole = InfinitesimalAction("translation_y", (6, 5), "c4")(kind, x)
    pooled = InfinitesimalAction("translation_y", (12, 5), "c4")(kind, x)
    torch.testing.assert_close(pooled, whole / 2)


def test_keeps_dtype():
    x = random(1, 2, 4, 5, 5).float()
    assert InfinitesimalAction("rotation", (5, 5), "c4")("regular", x).dtype == torch.float32


def test_transformation_is_checked():
    match = "`transformation` must be one of rotation, translation_x, translation_y; got 'shear'"
    with pytest.raises(ValueError, match=match):
        InfinitesimalAction("shear", (5, 5))


@pytest.mark.parametrize(
    ("kind", "x", "match"),
    [
        ("scalar", torch.ones(2, 1, 4, 4, dtype=torch.uint8), r"floating-point .* torch\.uint8"),
        ("scalar", torch.ones(2, 4, 4), r"'scalar' must be \[B, C, H, W\]; got \[2, 4, 4\]"),
        ("vector", torch.ones(2, 3, 4, 4), r"'vector' must be \[B, 2 C, H, W\]; got \[2, 3, 4"),
        ("regular", torch.ones(2, 3, 8, 4, 4), r"must be \[B, C, 4, H, W\]; got \[2, 3, 8, 4"),
        ("invariant", torch.tensor(1.0), r"must be \[B, \.\.\.\]; got \[\]"),
        ("scalar", torch.ones(2, 3, 5, 2), r"3 x 3 pixels or more .* got \[2, 3, 5, 2\]"),
        ("regular", torch.ones(2, 3, 4, 2, 5), r"3 x 3 pixels or more .* got \[2, 3, 4, 2, 5\]"),
    ],
)
def test_shapes_are_checked(kind, x, match):
    with pytest.raises(ValueError, match=match):
        InfinitesimalAction("rotation", (5, 5), "c4").check(kind, x, "it")


def test_rotations_of_feature_maps_need_the_group():
    x = torch.ones(2, 3, 4, 5, 5)
    with pytest.raises(ValueError, match=r"turns with its group.* Pass `group`, e\.g\. group='c4'"):
        InfinitesimalAction("rotation", (5, 5)).check("regular", x, "it")
    InfinitesimalAction("translation_x", (5, 5)).check("regular", x, "it")
    with pytest.raises(ValueError, match=r"\[B, C, \|G\|, H, W\]; got \[2, 3, 5, 5\]"):
        InfinitesimalAction("translation_x", (5, 5)).check("regular", x[:, :, 0], "it")
