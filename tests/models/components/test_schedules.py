import math

import pytest

from src.models.components.schedules import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    Schedule,
    TriangleSchedule,
)


@pytest.mark.parametrize("make", [LinearSchedule, CosineSchedule])
@pytest.mark.parametrize(("start", "end"), [(0.0, 1e-2), (0.1, 0.7), (1, 0)])
def test_the_ends_are_exact_and_values_lie_between_in_order(make, start, end):
    schedule = make(start, end, begin=0.3, finish=0.8)
    assert [schedule(p) for p in (0.0, 0.1, 0.3)] == [start] * 3
    assert [schedule(p) for p in (0.8, 0.9, 1.0)] == [end] * 3
    values = [schedule(p / 100) for p in range(101)]
    assert values == sorted(values, reverse=start > end)
    assert all(isinstance(value, float) for value in values)
    assert schedule == make(start, end, begin=0.3, finish=0.8)
    with pytest.raises(AttributeError):  # it has no state
        schedule.start = 0.5


def test_a_triangle_is_exact_at_its_corners_and_straight_between():
    schedule = TriangleSchedule()
    assert [schedule(p) for p in (0.0, 0.5, 1.0)] == [0.0, 1.0, 0.0]
    assert [schedule(p) for p in (0.125, 0.25, 0.75)] == [0.25, 0.5, 0.5]
    assert schedule.extremes() == (0.0, 1.0, 0.0)
    late = TriangleSchedule(0.1, 0.2, 0.4, 0.6, peak=0.9)
    assert [late(p) for p in (0.0, 0.4, 0.5, 0.6, 1.0)] == [0.1, 0.1, 0.9, 0.2, 0.2]


HALF_ROOT = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (LinearSchedule(1.0, 0.0, begin=0.2, finish=0.6), [0.75, 0.5, 0.25]),
        (
            CosineSchedule(2.0, 6.0, begin=0.2, finish=0.6),
            [2 + 2 * (1 - HALF_ROOT), 4.0, 2 + 2 * (1 + HALF_ROOT)],
        ),
        (ConstantSchedule(0.25), [0.25] * 3),
        (TriangleSchedule(), [0.6, 0.8, 1.0]),
        (TriangleSchedule(0.5, 2.0, 0.2, 0.6, peak=3.0), [1.75, 3.0, 2.5]),
    ],
)
def test_values_by_hand(schedule, expected):
    assert [schedule(p) for p in (0.5, 0.4, 0.3)] == pytest.approx(expected[::-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"begin": 0.8, "finish": 0.3}, "0 <= begin < finish <= 1; got begin=0.8 and"),
        ({"begin": 0.5, "finish": 0.5}, "got begin=0.5 and finish=0.5. Use for"),
        ({"begin": -0.1}, "`begin` and `finish` of a schedule must .*got begin=-0.1"),
        ({"finish": 1.5}, "must be fractions of training .*finish=1.5"),
        ({"start": "1"}, "`start` must be a finite number; got '1'. Use"),
        ({"end": math.nan}, "`end` must be a finite number; got nan"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        CosineSchedule(**{"start": 1.0, "end": 0.0, **arguments})
    with pytest.raises(ValueError, match="`value` must be a finite number; got 'x'"):
        ConstantSchedule("x")
    with pytest.raises(ValueError, match="`peak` must be a finite number; got 'x'"):
        TriangleSchedule(peak="x")
    with pytest.raises(TypeError, match="abstract"):
        Schedule(0.0, 1.0)
