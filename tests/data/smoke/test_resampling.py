import dataclasses

import numpy as np
import pytest
import torch

from src.data.smoke.resampling import average_blocks, check_divides, stored_frame
from src.models.components.gcnn.actions import transform_vector_field
from tests.helpers.fake_plumes import tiny_plumes


def plumes(*magnifications):
    plume = tiny_plumes()[0]
    return [dataclasses.replace(plume, magnification=f) for f in magnifications]


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape)


def test_frames_of_the_stored_resolution_stay_as_they_are():
    velocity = noise(2, 2, 16, 16).astype(np.float32)
    result = stored_frame(velocity, plumes(1, 1), 16)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, velocity)


def test_velocities_are_divided_by_the_magnification():
    result = stored_frame(np.full((2, 2, 24, 24), 3.0), plumes(1.5, 2), 16)
    assert result.shape == (2, 2, 16, 16)
    np.testing.assert_allclose(result[0], 2.0)
    np.testing.assert_allclose(result[1], 1.5)


def test_a_linear_field_keeps_its_slope_inside():
    columns = (np.arange(32) + 0.5) / 2
    velocity = np.broadcast_to(columns, (1, 2, 32, 32)).copy()
    result = stored_frame(velocity, plumes(1), 16)
    np.testing.assert_allclose(result[..., 2:-2], np.arange(2, 14) + np.full((1, 2, 16, 12), 0.5))


@pytest.mark.parametrize("size", [24, 25, 70])
def test_resampling_commutes_with_quarter_turns(size):
    velocity = torch.from_numpy(noise(1, 2, size, size))
    turned = transform_vector_field(velocity, "c4", 1)
    first = torch.from_numpy(stored_frame(turned.numpy(), plumes(1.5), 16))
    second = torch.from_numpy(stored_frame(velocity.numpy(), plumes(1.5), 16))
    torch.testing.assert_close(first, transform_vector_field(second, "c4", 1))


def test_blocks_are_averaged():
    velocities = torch.from_numpy(noise(3, 5, 2, 8, 8))
    result = average_blocks(velocities, 2)
    assert result.shape == (3, 5, 2, 4, 4)
    torch.testing.assert_close(result[1, 2, 0, 1, 3], velocities[1, 2, 0, 2:4, 6:8].mean())
    assert average_blocks(velocities, 1) is velocities


def test_averaging_commutes_with_quarter_turns():
    velocity = torch.from_numpy(noise(1, 4, 2, 8, 8))
    turned = transform_vector_field(velocity[0], "c4", 1)[None]
    result = average_blocks(turned, 2)[0]
    expected = transform_vector_field(average_blocks(velocity, 2)[0], "c4", 1)
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(("factor", "error"), [(3, ValueError), (0, ValueError), (2.0, TypeError)])
def test_blocks_must_fill_a_frame(factor, error):
    rule = "must divide the resolution of a frame, 8" if factor == 3 else "must be an integer of"
    with pytest.raises(error, match=rf"`coarsen` {rule}.*; got {factor}. Use data.coarsen=2"):
        check_divides(factor, 8)
    with pytest.raises(error, match="`coarsen` must"):
        average_blocks(torch.zeros(1, 1, 2, 8, 8), factor)
