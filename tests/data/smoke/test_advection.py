import dataclasses

import pytest
import torch

from src.data.smoke.advection import Advection, corners, interpolate
from src.data.smoke.plumes import Plume

PLUME = Plume((0,), 0, (4, 3), 2.0, (0.0, 0.5), resolution=8)


def from_rest(plumes, velocity_dt=0.5, smoke_dt=1.0):
    """Smoke and velocity after the first step."""
    rest = (torch.zeros(*shape).double() for shape in ((len(plumes), 8, 8), (2, len(plumes), 7, 8)))
    return Advection(plumes, velocity_dt, smoke_dt, torch.device("cpu")).step(*rest)


def test_smoke_comes_in_where_the_centre_of_a_cell_lies_in_the_disc():
    plumes = [PLUME, dataclasses.replace(PLUME, inflow=(7, 1.5), radius=1.0)]
    centres = torch.arange(8) + 0.5
    for own, plume in zip(from_rest(plumes)[0], plumes):
        x, y = plume.inflow
        distance = (centres[:, None] - x).hypot(centres - y)
        assert torch.equal(own, (distance <= plume.radius).double())
        assert own.sum() >= 2


def test_buoyancy_is_not_multiplied_by_a_time_averaged_to_faces_and_another_on_the_right():
    plumes = [dataclasses.replace(PLUME, buoyancy_right=(0.25, 1.0)), PLUME]
    smoke, (x_faces, y_faces) = from_rest(plumes, 0.25, 0.5)
    y_faces = y_faces.mT  # [column, row]
    flow = (smoke[..., :-1] + smoke[..., 1:]) / 2
    assert torch.equal(y_faces[0, :4], 0.5 * flow[0, :4])
    assert torch.equal(y_faces[0, 4:], 1.0 * flow[0, 4:])
    assert torch.equal(y_faces[1], 0.5 * flow[1])
    assert not x_faces[1].any()
    assert not x_faces[0, :3].any()
    assert x_faces[0, 3].max() == 0.125  # between the halves: the mean of 0 and 0.25
    assert x_faces[0, 4:].max() == 0.25


@pytest.mark.parametrize("reach", [0.9, 3.0, 20.0])
def test_interpolation_agrees_with_grid_sample_and_stops_at_the_frame(reach):
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(3, 6, 7, dtype=torch.float64, generator=generator)
    path = reach * torch.randn(2, 3, 6, 7, dtype=torch.float64, generator=generator)
    rows, columns = path[0] + torch.arange(6)[:, None], path[1] + torch.arange(7)
    places = torch.stack([columns / 3 - 1, rows / 2.5 - 1], -1)
    for mode, padding in (("replicate", "border"), ("constant", "zeros")):
        framed = torch.nn.functional.pad(field, (2, 2, 2, 2), mode=mode)
        expected = torch.nn.functional.grid_sample(
            field[:, None], places, padding_mode=padding, align_corners=True
        )
        got = interpolate(*corners(framed, path))
        torch.testing.assert_close(got, expected[:, 0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [8, 9])
def test_reflections_and_turns_of_the_box_commute_with_advection_bit_for_bit(size):
    generator = torch.Generator().manual_seed(0)
    smoke = torch.randn(1, size, size, dtype=torch.float64, generator=generator)
    faces = 2 * torch.randn(2, 1, size - 1, size, dtype=torch.float64, generator=generator)
    plume = dataclasses.replace(PLUME, resolution=size)
    advection = Advection([plume], 0.7, 1.3, torch.device("cpu"))

    def mirrored(smoke, faces):  # x -> N - x
        return smoke.flip(1), torch.stack([-faces[0].flip(1), faces[1].flip(2)])

    def transposed(smoke, faces):
        return smoke.mT, faces.flip(0)

    def advected(smoke, faces):
        return advection.advect_smoke(smoke, faces), advection.advect_velocity(faces)

    for turn in (mirrored, transposed):
        first, then = advected(*turn(smoke, faces)), turn(*advected(smoke, faces))
        assert all(torch.equal(a, b) for a, b in zip(first, then)), turn.__name__
        assert not torch.equal(then[0], smoke)
