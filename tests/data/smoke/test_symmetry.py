import dataclasses

import pytest
import torch

from src.data.smoke.plumes import rotation_plumes, strength_plumes, translation_plumes
from src.data.smoke.simulation import LAYOUTS
from src.data.smoke.symmetry import data_equivariance_error, turn_back, turned_plumes
from src.models.components.gcnn.actions import transform_vector_field
from tests.helpers.fake_plumes import tiny_plumes


def box(size=6):
    """A random field on the faces of a closed box: x [T, N, N + 1] and y [T, N + 1, N]."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 3, size, size + 1, generator=generator, dtype=torch.float64)
    x[..., [0, -1]] = 0
    y = y.transpose(-2, -1).clone()
    y[:, [0, -1]] = 0
    return x, y


def stored(field, layout):
    """A field on faces in a layout."""
    x, y = field
    if layout == "centered":
        return torch.stack([(x[..., 1:] + x[..., :-1]) / 2, (y[:, 1:] + y[:, :-1]) / 2], 1)
    return torch.stack([x[..., :-1], y[:, :-1]], 1)


def quarter_turn(field):
    """Element 1 of C4 on faces: (v0, v1) -> (v1, -v0), and the picture turns."""
    return torch.rot90(field[1], 1, (-2, -1)), -torch.rot90(field[0], 1, (-2, -1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_side_is_turned_back_exactly(layout):
    field = box()
    up, sides = stored(field, layout), {}
    for side in (0, 3, 2, 1):  # side s is the turn of side 0 by element -s
        sides[side] = stored(field, layout)
        torch.testing.assert_close(turn_back(sides[side], side, layout), up, atol=1e-12, rtol=0)
        field = quarter_turn(field)
    together = torch.stack([sides[side] for side in range(4)])
    assert data_equivariance_error(together, layout) < 1e-12
    other = set(LAYOUTS) - {layout}
    assert data_equivariance_error(together, other.pop()) > 0.1
    with pytest.raises(ValueError, match="`layout` must be one of centered, staggered_cropped"):
        turn_back(up, 1, "faces")


def test_the_error_is_the_mean_of_the_three_other_sides():
    up = stored(box(), "centered")
    others = [transform_vector_field(up + o, "c4", -s % 4) for s, o in ((1, 0.0), (2, 1), (3, 3))]
    assert data_equivariance_error(torch.stack([up, *others]), "centered") == pytest.approx(4 / 3)
    # of plumes that do not turn their vectors
    pictures = torch.stack([torch.rot90(up, -side, (-2, -1)) for side in range(4)])
    assert data_equivariance_error(pictures, "centered") > 0.1


def test_sets_of_plumes_turned_to_four_sides():
    plumes = tiny_plumes()
    assert turned_plumes(plumes) == [[0, 1, 2, 3]]
    assert turned_plumes([plumes[i] for i in (2, 0, 3, 1)]) == [[1, 3, 0, 2]]
    box = {"inflow": (8, 3), "radius": 2, "buoyancy": 0.1, "resolution": 16}
    many = strength_plumes(3, strengths={"train": [1], "val": [2]}, offsets=[0, 1], **box)
    assert turned_plumes(many) == [[4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3] for i in range(4)]
    assert turned_plumes(many[:-1]) is None
    other_task, sizes = dataclasses.replace(plumes[0], task=(2, 0)), {"radius": 2, "resolution": 16}
    others = [plumes[:3], [*plumes[:3], plumes[0]], [other_task, *plumes[1:]]]
    others.append(rotation_plumes(4, inflow=(8, 3), buoyancy=[0.1] * 4, **sizes))
    others.append(translation_plumes([4, 8], [4, 8], buoyancy=0.1, buoyancy_right=0.2, **sizes))
    assert [turned_plumes(other) for other in others] == [None] * 5
