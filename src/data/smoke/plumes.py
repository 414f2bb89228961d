"""What is simulated: plumes of smoke, and the published lists of them."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from src.checks import check_integer, wrong

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
        radius: of that disc, in cells. One unit of smoke comes in per step in each of the cells
            whose centre lies in the disc.
        buoyancy: (x, y) of the acceleration by one unit of smoke, in cells per time unit, per step.
        buoyancy_right: the same in the half x > N / 2, where it is another one there.
        resolution: N, cells along each side of the box.
        magnification: f of a plume all of whose lengths are f times those of plume f = 1.

    Raises:
        TypeError, ValueError: naming the attribute, the rule, the value and a fix.
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
        _check_side(self.side)
        check_integer("resolution", self.resolution, minimum=2)
        _check_pair("inflow", self.inflow, "(32, 5)")
        _check_pair("buoyancy", self.buoyancy, "(0, 0.1)")
        if self.buoyancy_right is not None:
            _check_pair("buoyancy_right", self.buoyancy_right, "(0, 0.2)")
        _check_positive("radius", self.radius, 5)
        _check_positive("magnification", self.magnification, 1)
        if not all(0 <= coordinate <= self.resolution for coordinate in self.inflow):
            rule = f"inside the box, between 0 and {self.resolution}"
            middle = self.resolution / 2
            raise ValueError(wrong("inflow", rule, self.inflow, f"({middle}, 5)"))
        if self._distance_to_cell() > self.radius:
            rule = f"so large that the disc round {self.inflow} covers the centre of a cell"
            raise ValueError(wrong("radius", rule, self.radius, "5"))

    def _distance_to_cell(self) -> float:
        """From the centre of the inflow to that of the nearest cell."""
        last = self.resolution - 1
        return math.hypot(*(c - (min(math.floor(c), last) + 0.5) for c in self.inflow))


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

    Their labels are the places (x, y), in the order in which y runs faster.

    Args:
        x, y: of the inflows' centres, in cells.
        radius: of the inflows, in cells.
        buoyancy, buoyancy_right: in the left and in the right half, upwards.
        resolution: cells along each side.

    Raises:
        TypeError, ValueError: if a number lies outside its range; see `Plume`.
    """
    up, up_right = (0.0, buoyancy), (0.0, buoyancy_right)
    return [
        Plume(place, 0, place, radius, up, up_right, resolution)
        for place in itertools.product(x, y)
    ]


def rotation_plumes(
    num_tasks: int,
    *,
    inflow: Pair,
    radius: float,
    buoyancy: Sequence[float],
    resolution: int,
) -> list[Plume]:
    """Plumes from all sides of the box in turn, one stronger than the other.

    Plume k = 1, 2, ... is of side s = (k - 1) mod 4, has the buoyancy k * ``buoyancy[s]`` and the
    label (k, s).

    Args:
        num_tasks: how many.
        inflow: (x, y) of the inflow of side 0, turned for the other sides.
        radius: of the inflows, in cells.
        buoyancy: for k = 1, one number for each of the four sides.
        resolution: cells along each side.

    Raises:
        TypeError, ValueError: if a number lies outside its range; see `Plume`.
    """
    check_integer("num_tasks", num_tasks, minimum=1)
    if len(buoyancy) != len(SIDES):
        example = "[0.01, 0.01, 0.011, 0.01]"
        raise ValueError(wrong("buoyancy", "one number for each of 4 sides", buoyancy, example))
    plumes = []
    for k in range(1, num_tasks + 1):
        side = (k - 1) % len(SIDES)
        plumes.append(_turned((k, side), side, inflow, radius, k * buoyancy[side], resolution))
    return plumes


def scale_plumes(
    factors: Sequence[float],
    *,
    inflow: Pair,
    radius: float,
    buoyancy: float,
    resolution: int,
) -> list[Plume]:
    """Rising plumes, all of whose lengths are magnified by one of several factors.

    A plume of factor f has floor(f * resolution) cells along each side. Its label is (f,).

    Args:
        factors: f of each plume, at least 1.
        inflow: (x, y) for f = 1.
        radius: of the inflow for f = 1, in cells.
        buoyancy: upwards, for f = 1.
        resolution: cells along each side for f = 1.

    Raises:
        TypeError, ValueError: if a number lies outside its range; see `Plume`.
    """
    for factor in factors:
        if not (_is_number(factor) and factor >= 1):
            raise ValueError(wrong("factors", "numbers of at least 1", factor, "1.5"))
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
    level: int,
    *,
    inflow: Pair,
    radius: float,
    buoyancy: float,
    resolution: int,
) -> list[Plume]:
    """One plume from each side, of strengths that differ the more the higher the level.

    With i = 1 + s * level, side s has the buoyancy (i + 1) * ``buoyancy``: at level 0 all four are
    quarter turns of one another. Labels are (level, side).

    Args:
        level: 0 to 9.
        inflow: (x, y) of the inflow of side 0, turned for the other sides.
        radius: of the inflows, in cells.
        buoyancy: half that of side 0.
        resolution: cells along each side.

    Raises:
        TypeError, ValueError: if a number lies outside its range; see `Plume`.
    """
    if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level <= MAX_LEVEL:
        rule = f"an integer from 0 to {MAX_LEVEL}"
        raise ValueError(wrong("level", rule, level, "data.level=4"))
    return [
        _turned((level, side), side, inflow, radius, (2 + side * level) * buoyancy, resolution)
        for side in range(len(SIDES))
    ]


def _turned(
    task: tuple[float, ...],
    side: int,
    inflow: Pair,
    radius: float,
    strength: float,
    resolution: int,
) -> Plume:
    """The plume that rises from ``inflow``, turned to a side."""
    (x, y), (right, up) = inflow, (0.0, strength)
    for _ in range(side):
        x, y = resolution - y, x
        right, up = -up + 0.0, right  # 0.0, not -0.0
    return Plume(task, side, (x, y), radius, (right, up), resolution=resolution)


def _check_side(side: object) -> None:
    if isinstance(side, bool) or not isinstance(side, int) or not 0 <= side < len(SIDES):
        names = ", ".join(f"{number} ({name})" for number, name in enumerate(SIDES))
        raise ValueError(wrong("side", f"one of {names}", side, "0"))


def _check_pair(name: str, value: object, example: str) -> None:
    if not (isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))):
        raise ValueError(wrong(name, "a tuple of two finite numbers (x, y)", value, example))


def _check_positive(name: str, value: object, example: int) -> None:
    if not (_is_number(value) and value > 0):
        raise ValueError(wrong(name, "a positive number", value, str(example)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
