import dataclasses

import pytest
import torch

from src.data.smoke.plumes import (
    Plume,
    level_plumes,
    rotation_plumes,
    scale_plumes,
    translation_plumes,
)
from src.models.components.gcnn.actions import transform_image

LEVEL = {"inflow": (32, 5), "radius": 5, "buoyancy": 0.005, "resolution": 64}
ROTATION = {**LEVEL, "buoyancy": (0.01, 0.01, 0.011, 0.01)}
TRANSLATION = {"radius": 5, "buoyancy": 0.1, "buoyancy_right": 0.2, "resolution": 64}
PLUME = Plume((32, 5), 0, (32, 5), 5, (0.0, 0.1))


def test_translation_plumes_are_those_published():
    plumes = translation_plumes(range(8, 64, 8), range(5, 30, 5), **TRANSLATION)
    assert len(plumes) == 35
    assert [plume.task for plume in plumes[:6]] == [
        (8, 5),
        (8, 10),
        (8, 15),
        (8, 20),
        (8, 25),
        (16, 5),
    ]
    assert all(plume.inflow == plume.task and plume.side == 0 for plume in plumes)
    assert {(plume.buoyancy, plume.buoyancy_right) for plume in plumes} == {((0, 0.1), (0, 0.2))}


def test_rotation_plumes_are_those_published():
    plumes = rotation_plumes(36, **ROTATION)
    assert [plume.task for plume in plumes[:5]] == [(1, 0), (2, 1), (3, 2), (4, 3), (5, 0)]
    assert plumes[-1].task == (36, 3)
    inflows = [plume.inflow for plume in plumes[:4]]
    assert inflows == [(32, 5), (59, 32), (32, 59), (5, 32)]
    expected = [(0, 0.01), (-0.02, 0), (0, -0.033), (0.04, 0)]
    for plume, buoyancy in zip(plumes, expected):
        assert plume.buoyancy == pytest.approx(buoyancy)
    assert {(plume.radius, plume.resolution, plume.magnification) for plume in plumes} == {
        (5, 64, 1)
    }


def test_scale_plumes_are_those_published():
    plumes = scale_plumes([1, 1.1, 4.7], **{**LEVEL, "buoyancy": 0.1})
    assert [plume.resolution for plume in plumes] == [64, 70, 300]
    assert [plume.magnification for plume in plumes] == [1, 1.1, 4.7]
    assert plumes[1].task == (1.1,)
    assert plumes[1].inflow == pytest.approx((35.2, 5.5))
    assert plumes[1].radius == pytest.approx(5.5)
    assert plumes[1].buoyancy == pytest.approx((0, 0.11))


@pytest.mark.parametrize("level", [0, 4, 9])
def test_level_plumes_are_those_published(level):
    plumes = level_plumes(level, **LEVEL)
    assert [plume.task for plume in plumes] == [(level, side) for side in range(4)]
    strengths = [0.005 * (i + 1) for i in (1, 1 + level, 1 + 2 * level, 1 + 3 * level)]
    turned = [(0, strengths[0]), (-strengths[1], 0), (0, -strengths[2]), (strengths[3], 0)]
    for plume, buoyancy in zip(plumes, turned):
        assert plume.buoyancy == pytest.approx(buoyancy)


@pytest.mark.parametrize("side", range(4))
def test_side_is_turned_against_the_sense_of_the_group_element_on_pictures(side):
    def disc(plume):
        cells = torch.arange(16) + 0.5
        x, y = plume.inflow
        return ((cells - x) ** 2 + (cells[:, None] - y) ** 2 <= plume.radius**2).float()

    plumes = level_plumes(0, inflow=(6, 3), radius=2.5, buoyancy=0.1, resolution=16)
    assert disc(plumes[0]).sum() > 8
    assert torch.equal(transform_image(disc(plumes[side]), "c4", side), disc(plumes[0]))


@pytest.mark.parametrize("level", [-1, 10, 2.0, True, "4"])
def test_level_out_of_range(level):
    message = r"`level` must be an integer from 0 to 9; got .*\. Use data.level=4"
    with pytest.raises(ValueError, match=message):
        level_plumes(level, **LEVEL)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"side": 4}, ValueError, r"`side` must be one of 0 \(up\), 1 \(left\), .*; got 4. Use 0"),
        ({"side": True}, ValueError, "`side` must be one of .*; got True"),
        ({"resolution": 1}, ValueError, "`resolution` must be an integer of at least 2; got 1"),
        ({"resolution": 64.0}, TypeError, "`resolution` must be an integer .*; got 64.0"),
        ({"inflow": (32, 65)}, ValueError, r"`inflow` must be inside the box, .* 64; got \(32, 65"),
        ({"inflow": [32, 5]}, ValueError, r"`inflow` must be a tuple of two .*; got \[32, 5\]"),
        ({"inflow": (32, float("nan"))}, ValueError, r"`inflow` must be a tuple .*; got \(32, nan"),
        ({"radius": 0}, ValueError, "`radius` must be a positive number; got 0. Use 5"),
        ({"radius": 0.7}, ValueError, r"`radius` must be so large that .* a cell; got 0.7. Use 5"),
        ({"buoyancy": (0.1,)}, ValueError, r"`buoyancy` must be a tuple .*; got \(0.1,\). Use"),
        ({"buoyancy_right": 0.1}, ValueError, "`buoyancy_right` must be a tuple .*; got 0.1"),
        ({"magnification": -1}, ValueError, "`magnification` must be a positive number; got -1"),
    ],
)
def test_plume_says_what_is_wrong(changes, error, message):
    with pytest.raises(error, match=message):
        dataclasses.replace(PLUME, **changes)


def test_smallest_disc_that_holds_a_cell():
    assert dataclasses.replace(PLUME, inflow=(31.5, 4.5), radius=1e-3).radius == 1e-3
    assert dataclasses.replace(PLUME, inflow=(64, 64), radius=0.71).radius == 0.71


def test_lists_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"`buoyancy` must be one number for each of 4 sides; got"):
        rotation_plumes(36, **{**ROTATION, "buoyancy": [0.01, 0.02]})
    with pytest.raises(ValueError, match=r"`num_tasks` must be an integer of at least 1; got 0"):
        rotation_plumes(0, **ROTATION)
    with pytest.raises(ValueError, match=r"`factors` must be numbers of at least 1; got 0.5. Use"):
        scale_plumes([1, 0.5], **LEVEL)
