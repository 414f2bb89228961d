"""What is simulated: plumes of smoke, and the published lists of them.

In the lists, ``inflow`` is the centre of the inflow of side 0 and ``radius`` its radius, in cells;
buoyancies are in cells per time unit, per step and unit of smoke, and ``resolution`` counts the
cells along each side. Numbers outside their range raise ValueError; see `Plume`.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from src.checks import check_integer, check_number, wrong

SIDES = ("up", "left", "down", "right")
MAX_LEVEL = 9

Pair = tuple[float, float]


@dataclass(frozen=True)
class Plume:
    r"""Smoke that flows into a square box with closed walls and rises, or is driven aside.

    The box has N x N cells of size 1 and reaches from 0 to N; x grows with the column index and y
    with the row index. "Up" is the direction of growing y: downwards on a picture whose row 0 is
    the uppermost.

    Side ``s`` is plume 0 turned about the centre of the box by s quarter turns from the x to the y
    axis, (x, y) -> (N - y, x). On the displayed picture that is clockwise, so with v_s the velocity
    of side s and C4 acting as in `transform_vector_field`,

    .. math:: v_s = g_{-s \bmod 4} \, v_0, \qquad v_0 = g_s \, v_s

    Attributes:
        task: label in the published list of tasks.
        side: index of the direction in which side 0 is turned: 0 up, 1 left, 2 down, 3 right.
        inflow: (x, y) of the centre of the disc in which smoke is set free, in cells.
        radius: radius of that disc, in cells. One unit of smoke comes in per step in each of the
            cells whose centre lies in the disc.
        buoyancy: (x, y) of the acceleration by one unit of smoke, in cells per time unit, per step.
        buoyancy_right: the same in the half x > N / 2, where it is another one there.
        resolution: N, cells along each side of the box.
        magnification: f of a plume all of whose lengths are f times those of plume f = 1.

    Raises:
        ValueError: names the attribute, the rule, the value and a fix.
    """

    task: tuple[float, ...]
    side: int
    inflow: Pair
    radius: float
    buoyancy: Pair
    buoyancy_right: Pair | None = None
    resolution: int = 64
    magnification: float = 1.0

    def __post_init__(self) -> None:
        check_integer("resolution", self.resolution, minimum=2)
        if not all(0 <= coordinate <= self.resolution for coordinate in self.inflow):
            rule = f"inside the box, between 0 and {self.resolution}"
            raise ValueError(wrong("inflow", rule, self.inflow, f"({self.resolution / 2}, 5)"))
        nearest = (min(math.floor(c), self.resolution - 1) + 0.5 for c in self.inflow)
        if not math.dist(self.inflow, tuple(nearest)) <= self.radius:
            rule = f"so large that the disc round {self.inflow} covers the centre of a cell"
            raise ValueError(wrong("radius", rule, self.radius, "5"))


def translation_plumes(
    x: Sequence[float],
    y: Sequence[float],
    *,
    radius: float,
    buoyancy: float,
    buoyancy_right: float,
    resolution: int,
) -> list[Plume]:
    """Plumes that rise from places on a grid, faster in the right half of the box.

    Their labels are the places (x, y), in the order in which y runs faster: coordinates of the
    inflows' centres. ``buoyancy`` and ``buoyancy_right`` are upward, in the left and right half.
    """
    up, up_right = (0.0, buoyancy), (0.0, buoyancy_right)
    return [
        Plume(place, 0, place, radius, up, up_right, resolution)
        for place in itertools.product(x, y)
    ]


def rotation_plumes(
    num_tasks: int, *, inflow: Pair, radius: float, buoyancy: Sequence[float], resolution: int
) -> list[Plume]:
    """Plumes from all sides of the box in turn, one stronger than the other.

    Plume k = 1, ..., ``num_tasks`` is of side s = (k - 1) mod 4, has the buoyancy
    k * ``buoyancy[s]`` (one number for each of the four sides) and the label (k, s).
    """
    check_integer("num_tasks", num_tasks)
    if len(buoyancy) != len(SIDES):
        example = "[0.01, 0.01, 0.011, 0.01]"
        raise ValueError(wrong("buoyancy", "one number for each of 4 sides", buoyancy, example))
    plumes = []
    for k in range(1, num_tasks + 1):
        side = (k - 1) % len(SIDES)
        plumes.append(_turned((k, side), inflow, radius, k * buoyancy[side], resolution))
    return plumes


def scale_plumes(
    factors: Sequence[float], *, inflow: Pair, radius: float, buoyancy: float, resolution: int
) -> list[Plume]:
    """Rising plumes, all of whose lengths are magnified by one of several factors.

    A plume of factor f >= 1 has floor(f * resolution) cells along each side. Its label is (f,).
    The other arguments are those of f = 1; the buoyancy is upward.
    """
    for factor in factors:
        check_number("factors", factor, minimum=1, fix="1.5")
    return [
        Plume(
            task=(factor,),
            side=0,
            inflow=(factor * inflow[0], factor * inflow[1]),
            radius=factor * radius,
            buoyancy=(0.0, factor * buoyancy),
            resolution=math.floor(factor * resolution),
            magnification=factor,
        )
        for factor in factors
    ]


def level_plumes(
    level: int, *, inflow: Pair, radius: float, buoyancy: float, resolution: int
) -> list[Plume]:
    """One plume from each side, of strengths that differ the more the higher the level.

    Side s has the buoyancy (2 + s * level) * ``buoyancy``, with a level of 0 to 9: at level 0 all
    four are quarter turns of one another. Labels are (level, side).
    """
    _check_level(level)
    return [
        _turned((level, side), inflow, radius, (2 + side * level) * buoyancy, resolution)
        for side in range(len(SIDES))
    ]


def strength_plumes(
    level: int,
    *,
    strengths: Mapping[str, Sequence[float]],
    offsets: Sequence[float],
    inflow: Pair,
    radius: float,
    buoyancy: float,
    resolution: int,
) -> list[Plume]:
    r"""Plumes of many strengths from places along each side; the sides differ by the level.

    The plume of strength k, offset o and side s has the buoyancy

    .. math:: k b \, \frac{2 + s L}{2 + 3 L / 2}

    with b = ``buoyancy`` and the level L of 0 to 9: in proportion as those of `level_plumes`, and
    of the same mean over the sides at every level. At level 0 the four sides are quarter turns of
    one another. The inflow of side 0 is o cells beside ``inflow``, along the wall. Strengths are
    given by the part of the data that they are for. Labels are (strength, offset, side).
    """
    _check_level(level)
    shares = [(2 + side * level) / (2 + 1.5 * level) for side in range(len(SIDES))]
    together = itertools.chain.from_iterable(strengths.values())
    plumes = []
    for strength, offset, side in itertools.product(together, offsets, range(len(SIDES))):
        task, place = (strength, offset, side), (inflow[0] + offset, inflow[1])
        plumes.append(_turned(task, place, radius, strength * buoyancy * shares[side], resolution))
    return plumes


def up_to_turns(plume: Plume) -> tuple[float, ...]:
    """What turned and mirrored copies of a plume share, and no others of one buoyancy throughout.

    Strength of the buoyancy (cells per time unit, per step); place of the inflow from the box's
    centre along it, and distance beside it, in cells; radius and resolution. To nine digits.
    """
    (right, up), strength = plume.buoyancy, math.hypot(*plume.buoyancy)
    x, y = (place - plume.resolution / 2 for place in plume.inflow)
    along, beside = (x * right + y * up) / strength, abs(x * up - y * right) / strength
    numbers = (strength, along, beside, plume.radius, plume.resolution)
    return tuple(round(number, 9) for number in numbers)


def _check_level(level: int) -> None:
    check_integer("level", level, minimum=0)
    if level > MAX_LEVEL:
        raise ValueError(wrong("level", f"at most {MAX_LEVEL}", level, "data.level=4"))


def _turned(
    task: tuple[float, ...], inflow: Pair, radius: float, strength: float, resolution: int
) -> Plume:
    """The plume that rises from ``inflow``, turned to the side that is the last label."""
    (x, y), (right, up), side = inflow, (0.0, strength), int(task[-1])
    for _ in range(side):
        x, y = resolution - y, x
        right, up = -up + 0.0, right  # 0.0, not -0.0
    return Plume(task, side, (x, y), radius, (right, up), resolution=resolution)
