import dataclasses

import pytest
import torch

from src.data.smoke.advection import Advection
from src.data.smoke.plumes import Plume

CPU = torch.device("cpu")
PLUME = Plume((0,), 0, (4, 3), 2.0, (0.0, 0.5), resolution=8)


def from_rest(plumes, velocity_dt=0.5, smoke_dt=1.0):
    """Smoke and velocity after the first step."""
    shapes = ((8, 8), (7, 8), (8, 7))
    rest = [torch.zeros(len(plumes), *shape, dtype=torch.float64) for shape in shapes]
    return Advection(plumes, velocity_dt, smoke_dt, CPU).step(*rest)


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
    smoke, x_faces, y_faces = from_rest(plumes, 0.25, 0.5)
    flow = (smoke[..., :-1] + smoke[..., 1:]) / 2
    assert torch.equal(y_faces[0, :4], 0.5 * flow[0, :4])
    assert torch.equal(y_faces[0, 4:], 1.0 * flow[0, 4:])
    assert torch.equal(y_faces[1], 0.5 * flow[1])
    assert not x_faces[1].any()
    assert not x_faces[0, :3].any()
    assert x_faces[0, 3].max() == 0.125  # between the halves: the mean of 0 and 0.25
    assert x_faces[0, 4:].max() == 0.25


def test_defaults_of_phiflow_are_as_before_and_devices_checked():
    from phi.math import get_precision
    from phiml.backend import default_backend

    def defaults():
        return default_backend(), get_precision(), default_backend().get_default_device()

    before = defaults()
    from_rest([PLUME])
    assert defaults() == before
    with pytest.raises(ValueError, match=r"`device` must be one .* cpu.*; got 'meta'. Use cpu"):
        Advection([PLUME], 0.5, 1.0, torch.device("meta"))
