import dataclasses

import pytest
import torch

from src.data.smoke.advection import Advection
from src.data.smoke.plumes import Plume

CPU = torch.device("cpu")
PLUME = Plume((0,), 0, (4, 3), 2.0, (0.0, 0.5), resolution=8)


def at_rest(count=1):
    shapes = ((count, 8, 8), (count, 7, 8), (count, 8, 7))
    return [torch.zeros(shape, dtype=torch.float64) for shape in shapes]


def test_smoke_comes_in_where_the_centre_of_a_cell_lies_in_the_disc():
    other = dataclasses.replace(PLUME, inflow=(7, 1.5), radius=1.0)
    smoke, _, _ = Advection([PLUME, other], 0.5, 1.0, CPU).step(*at_rest(2))
    centres = torch.arange(8) + 0.5
    for own, plume in zip(smoke, (PLUME, other)):
        x, y = plume.inflow
        distance = ((centres[:, None] - x) ** 2 + (centres - y) ** 2).sqrt()
        assert torch.equal(own, (distance <= plume.radius).double())
        assert own.sum() >= 2


def test_buoyancy_is_not_multiplied_by_a_time_and_is_averaged_to_faces():
    smoke, x_faces, y_faces = Advection([PLUME], 0.25, 0.5, CPU).step(*at_rest())
    assert torch.equal(y_faces, 0.5 * (smoke[..., :-1] + smoke[..., 1:]) / 2)
    assert not x_faces.any()


def test_buoyancy_of_the_right_half():
    plumes = [dataclasses.replace(PLUME, buoyancy_right=(0.25, 1.0)), PLUME]
    smoke, x_faces, y_faces = Advection(plumes, 0.5, 1.0, CPU).step(*at_rest(2))
    flow = (smoke[..., :-1] + smoke[..., 1:]) / 2
    assert torch.equal(y_faces[0, :4], 0.5 * flow[0, :4])
    assert torch.equal(y_faces[0, 4:], 1.0 * flow[0, 4:])
    assert torch.equal(y_faces[1], 0.5 * flow[1])
    assert not x_faces[0, :3].any()
    assert x_faces[0, 3].max() == 0.125  # between the halves: the mean of 0 and 0.25
    assert x_faces[0, 4:].max() == 0.25


def test_defaults_of_phiflow_are_as_before():
    from phi.math import get_precision
    from phiml.backend import default_backend

    before = default_backend(), get_precision(), default_backend().get_default_device()
    advection = Advection([PLUME], 0.5, 1.0, CPU)
    advection.step(*at_rest())
    after = default_backend(), get_precision(), default_backend().get_default_device()
    assert after == before


def test_device_that_phiflow_cannot_use():
    with pytest.raises(ValueError, match=r"`device` must be one .* cpu.*; got 'meta'. Use cpu"):
        Advection([PLUME], 0.5, 1.0, torch.device("meta"))
