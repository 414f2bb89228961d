import math
from dataclasses import replace

import pytest
import torch

from src.data.smoke.plumes import (
    Plume,
    level_plumes,
    rotation_plumes,
    scale_plumes,
    strength_plumes,
    translation_plumes,
)
from src.models.components.gcnn.actions import transform_image

LEVEL = {"inflow": (32, 5), "radius": 5, "buoyancy": 0.005, "resolution": 64}
STRENGTHS = {**LEVEL, "buoyancy": 0.0775, "strengths": {"train": [0.5, 1.0], "val": [2.0]}}
STRENGTHS |= {"offsets": [-6, 0, 6]}
ROTATION = {**LEVEL, "buoyancy": (0.01, 0.01, 0.011, 0.01)}
PLUME = Plume((32, 5), 0, (32, 5), 5, (0.0, 0.1))


def test_translation_plumes_are_those_published():
    options = {"radius": 5, "buoyancy": 0.1, "buoyancy_right": 0.2, "resolution": 64}
    plumes = translation_plumes(range(8, 64, 8), range(5, 30, 5), **options)
    places = [(x, y) for x in range(8, 64, 8) for y in range(5, 30, 5)]
    assert [plume.task for plume in plumes] == [plume.inflow for plume in plumes] == places
    assert {plume.side for plume in plumes} == {0}
    assert {(plume.buoyancy, plume.buoyancy_right) for plume in plumes} == {((0, 0.1), (0, 0.2))}


def test_rotation_plumes_are_those_published():
    plumes = rotation_plumes(36, **ROTATION)
    assert [plume.task for plume in plumes] == [(k, (k - 1) % 4) for k in range(1, 37)]
    assert [p.inflow for p in plumes[:4]] == [(32, 5), (59, 32), (32, 59), (5, 32)]
    expected = [(0, 0.01), (-0.02, 0), (0, -0.033), (0.04, 0)]
    assert [p.buoyancy for p in plumes[:4]] == [pytest.approx(pair) for pair in expected]


def test_scale_plumes_are_those_published():
    plumes = scale_plumes([1, 1.1, 4.7], **{**LEVEL, "buoyancy": 0.1})
    assert [(p.resolution, p.magnification) for p in plumes] == [(64, 1), (70, 1.1), (300, 4.7)]
    assert plumes[1].task == (1.1,)
    lengths = (*plumes[1].inflow, plumes[1].radius, *plumes[1].buoyancy)
    assert lengths == pytest.approx((35.2, 5.5, 5.5, 0, 0.11))


@pytest.mark.parametrize("level", [0, 4, 9])
def test_level_plumes_are_those_published(level):
    plumes = level_plumes(level, **LEVEL)
    assert [plume.task for plume in plumes] == [(level, side) for side in range(4)]
    strengths = [0.005 * (i + 1) for i in (1, 1 + level, 1 + 2 * level, 1 + 3 * level)]
    expected = [(0, strengths[0]), (-strengths[1], 0), (0, -strengths[2]), (strengths[3], 0)]
    assert [p.buoyancy for p in plumes] == [pytest.approx(pair) for pair in expected]


@pytest.mark.parametrize("level", [0, 4, 9])
def test_strengths_differ_between_the_sides_in_proportion_as_the_levels(level):
    """At level 9 and strength 1 they are the level's own; the mean is the same at every level."""
    plumes = strength_plumes(level, **STRENGTHS)
    expected = [(k, o, s) for k in (0.5, 1.0, 2.0) for o in (-6, 0, 6) for s in range(4)]
    assert [plume.task for plume in plumes] == expected
    published = level_plumes(level, **{**LEVEL, "buoyancy": 0.0775 / (2 + 1.5 * level)})
    for plume in plumes:
        strength, offset, side = plume.task
        own = published[side]
        assert plume.buoyancy == pytest.approx([strength * b for b in own.buoyancy])
        along = [(offset, 0), (0, offset), (-offset, 0), (0, -offset)][side]
        assert plume.inflow == tuple(a + b for a, b in zip(own.inflow, along))
    mean = sum(math.hypot(*plume.buoyancy) for plume in plumes) / len(plumes)
    assert mean == pytest.approx(0.0775 * 3.5 / 3)


def test_side_is_turned_against_the_sense_of_the_group_element_on_pictures():
    cells = torch.arange(16) + 0.5
    plumes = level_plumes(0, inflow=(6, 3), radius=2.5, buoyancy=0.1, resolution=16)
    discs = [(cells - p.inflow[0]) ** 2 + (cells[:, None] - p.inflow[1]) ** 2 < 6 for p in plumes]
    for side, disc in enumerate(discs):
        assert disc.sum() > 8
        assert torch.equal(transform_image(disc.float(), "c4", side), discs[0].float())


@pytest.mark.parametrize(
    ("make", "arguments", "options", "message"),
    [
        (replace, PLUME, {"resolution": 1}, "`resolution` must be an integer of at least 2; got 1"),
        (replace, PLUME, {"inflow": (32, 65)}, r"`inflow` must be inside the box, .* 64; got \(32"),
        (replace, PLUME, {"inflow": (32, math.nan)}, r"`inflow` must be inside .*; got \(32, nan"),
        (replace, PLUME, {"radius": 0.7}, "`radius` must be so large that .* a cell; got 0.7. Use"),
        (rotation_plumes, 36, ROTATION | {"buoyancy": [1, 2]}, "`buoyancy` must be one number for"),
        (rotation_plumes, 0, ROTATION, "`num_tasks` must be an integer of at least 1; got 0"),
        (scale_plumes, [1, 0.5], LEVEL, "`factors` must be a number of at least 1; got 0.5. Use"),
        (level_plumes, -1, LEVEL, "`level` must be an integer of at least 0; got -1"),
        (level_plumes, 2.0, LEVEL, "`level` must be an integer of at least 0; got 2.0"),
        (level_plumes, 10, LEVEL, "`level` must be at most 9; got 10. Use data.level=4"),
        (strength_plumes, 10, STRENGTHS, "`level` must be at most 9; got 10. Use data.level=4"),
    ],
)
def test_plumes_and_lists_say_what_is_wrong(make, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        make(arguments, **options)
    smallest = replace(PLUME, inflow=(31.5, 4.5), radius=1e-3)
    replace(smallest, inflow=(64, 64), radius=0.71)
