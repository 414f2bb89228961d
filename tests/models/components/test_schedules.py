import math

import pytest

from src.models.components.schedules import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    Schedule,
)


@pytest.mark.parametrize("make", [LinearSchedule, CosineSchedule])
@pytest.mark.parametrize(("start", "end"), [(0.0, 1e-2), (1.0, 0.0), (0.1, 0.7), (1, 0)])
def test_the_ends_are_exact_and_last(make, start, end):
    schedule = make(start, end, begin=0.3, finish=0.8)
    assert [schedule(p) for p in (0.0, 0.1, 0.3)] == [start] * 3
    assert [schedule(p) for p in (0.8, 0.9, 1.0)] == [end] * 3
    assert all(isinstance(schedule(p), float) for p in (0.0, 0.5, 1.0))


def test_linear_by_hand():
    schedule = LinearSchedule(1.0, 0.0, begin=0.2, finish=0.6)
    assert [schedule(p) for p in (0.3, 0.4, 0.5)] == pytest.approx([0.75, 0.5, 0.25])


def test_cosine_by_hand():
    schedule = CosineSchedule(2.0, 6.0, begin=0.2, finish=0.6)
    half_root = math.sqrt(0.5)
    expected = [2 + 2 * (1 - half_root), 4.0, 2 + 2 * (1 + half_root)]
    assert [schedule(p) for p in (0.3, 0.4, 0.5)] == pytest.approx(expected)


@pytest.mark.parametrize("make", [LinearSchedule, CosineSchedule])
def test_values_lie_between_the_ends_in_order(make):
    values = [make(0.9, 0.2)(p / 100) for p in range(101)]
    assert values == sorted(values, reverse=True)
    assert (values[0], values[-1]) == (0.9, 0.2)


def test_constant():
    assert [ConstantSchedule(0.25)(p) for p in (0.0, 0.5, 1.0)] == [0.25] * 3


def test_a_schedule_has_no_state():
    schedule = CosineSchedule(0.0, 1.0)
    later = schedule(0.7)
    schedule(0.2)
    assert schedule(0.7) == later
    assert schedule == CosineSchedule(0.0, 1.0)
    with pytest.raises(AttributeError):
        schedule.start = 0.5


def test_the_shape_is_for_subclasses():
    with pytest.raises(TypeError, match="abstract"):
        Schedule(0.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"begin": 0.8, "finish": 0.3}, ValueError, "0 <= begin < finish <= 1; got begin=0.8 and"),
        ({"begin": 0.5, "finish": 0.5}, ValueError, "got begin=0.5 and finish=0.5. Use for"),
        (
            {"begin": -0.1},
            ValueError,
            "`begin` and `finish` of a schedule must .*got begin=-0.1",
        ),
        ({"finish": 1.5}, ValueError, "must be fractions of training .*finish=1.5"),
        ({"start": "1"}, TypeError, "`start` of a schedule must be a finite number; got '1'. Use"),
        ({"end": None}, TypeError, "`end` of a schedule must be a finite number; got None"),
        ({"end": True}, TypeError, "`end` of a schedule must be a finite number; got True"),
        ({"end": math.nan}, ValueError, "`end` of a schedule must be a finite number; got nan"),
        ({"begin": math.inf}, ValueError, "`begin` of a schedule must be a finite number; got inf"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        CosineSchedule(**{"start": 1.0, "end": 0.0, **arguments})


def test_a_bad_constant():
    with pytest.raises(TypeError, match="`value` of a schedule must be a finite number; got 'x'"):
        ConstantSchedule("x")
