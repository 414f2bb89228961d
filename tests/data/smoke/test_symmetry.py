import dataclasses

import pytest
import torch

from src.data.smoke.plumes import (
    level_plumes,
    rotation_plumes,
    translation_plumes,
)
from src.data.smoke.simulation import Simulation
from src.data.smoke.symmetry import data_equivariance_error, turn_back, turned_plumes
from src.models.components.gcnn.actions import transform_vector_field
from tests.helpers.fake_plumes import tiny_plumes

PLUME = {"inflow": (8, 3), "radius": 2, "resolution": 16}
LAYOUTS = ("centered", "staggered_cropped")


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def staggered(field, layout):
    """A field on the faces of a closed box, (x faces [T, N, N + 1], y faces), in a layout."""
    x, y = field
    if layout == "centered":
        return torch.stack([(x[..., 1:] + x[..., :-1]) / 2, (y[:, 1:] + y[:, :-1]) / 2], 1)
    return torch.stack([x[..., :-1], y[:, :-1]], 1)


def box(size=6):
    """A random field on the faces of a closed box."""
    x, y = noise(2, 3, size, size + 1)
    x[..., [0, -1]] = 0
    y = y.transpose(-2, -1).clone()
    y[:, [0, -1]] = 0
    return x, y


def quarter_turn(field):
    """Element 1 of C4 on faces: (v0, v1) -> (v1, -v0), and the picture turns."""
    return torch.rot90(field[1], 1, (-2, -1)), -torch.rot90(field[0], 1, (-2, -1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_side_is_turned_back_exactly(layout):
    field = box()
    up = staggered(field, layout)
    for side in (0, 3, 2, 1):  # side s is the turn of side 0 by element -s
        torch.testing.assert_close(
            turn_back(staggered(field, layout), side, layout), up, atol=1e-12, rtol=0
        )
        field = quarter_turn(field)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_error_is_the_mean_of_the_three_other_sides(layout):
    up = staggered(box(), layout)
    others = [up + offset * (layout == "centered") for offset in (0.0, 1.0, 3.0)]
    sides = [up]
    for side, other in enumerate(others, 1):
        sides.append(transform_vector_field(other, "c4", -side % 4))
    if layout == "centered":
        assert data_equivariance_error(torch.stack(sides), layout) == pytest.approx(4 / 3)
    else:  # turned as if they were at the centres, cropped components are a cell off
        assert data_equivariance_error(torch.stack(sides), layout) > 0.1


def test_the_error_of_plumes_that_do_not_turn_their_vectors_is_seen():
    up = staggered(box(), "centered")
    pictures = torch.stack([torch.rot90(up, -side, (-2, -1)) for side in range(4)])
    assert data_equivariance_error(pictures, "centered") > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("level", "low", "high"), [(0, 0, 1e-7), (4, 1e-3, 1)])
def test_simulated_plumes(layout, level, low, high):
    plumes = level_plumes(level, buoyancy=0.05, **PLUME)
    simulation = Simulation(plumes, velocity_dt=0.5)
    frames = []
    for _ in range(12):
        simulation.step()
        frames.append(torch.from_numpy(simulation.velocity(layout)))
    assert low <= data_equivariance_error(torch.stack(frames, 1), layout) < high


def test_sets_of_one_plume_turned_to_four_sides():
    plumes = tiny_plumes()
    assert turned_plumes(plumes) == [0, 1, 2, 3]
    assert turned_plumes([plumes[i] for i in (2, 0, 3, 1)]) == [1, 3, 0, 2]
    assert turned_plumes(plumes[:3]) is None
    assert turned_plumes([*plumes[:3], plumes[0]]) is None
    assert turned_plumes([dataclasses.replace(plumes[0], task=(2, 0)), *plumes[1:]]) is None
    assert turned_plumes(rotation_plumes(4, buoyancy=[0.1] * 4, **PLUME)) is None
    places = {"radius": 2, "buoyancy": 0.1, "buoyancy_right": 0.2, "resolution": 16}
    assert turned_plumes(translation_plumes([4, 8], [4, 8], **places)) is None


def test_an_unknown_layout():
    with pytest.raises(ValueError, match="`layout` must be one of centered, staggered_cropped"):
        turn_back(noise(1, 2, 4, 4), 1, "faces")


@pytest.mark.parametrize("shape", [(3, 5, 2, 8, 8), (4, 5, 2, 8, 6), (4, 5, 3, 8, 8), (4, 2, 8, 8)])
def test_other_shapes_are_refused(shape):
    message = rf"`velocities` must hold square frames .*got shape \[{shape[0]}, .*Use the four"
    with pytest.raises(ValueError, match=message):
        data_equivariance_error(torch.zeros(shape), "centered")
