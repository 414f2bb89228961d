import math
from functools import partial
from types import SimpleNamespace

import pytest

from src.checks import check_choice, check_integer, check_number, check_shape, checked_folder

INTEGER = partial(check_integer, "n", minimum=3)
NUMBER = partial(check_number, "p", minimum=0)
FRACTION = partial(check_number, "p", minimum=0, maximum=1, fix="0.3")
FINITE = partial(check_number, "p", minimum=-math.inf)
CHOICE = partial(check_choice, "kind", choices=("a", "b"))


def shaped(shape):
    owner = SimpleNamespace(shape=shape)
    check_shape(owner, owner, ("B", 1, 5), "words", "A fix")


SHAPE = r"SimpleNamespace must have the shape \[B, 1, 5\] \(words\); got \[2, .*\]. A fix"
BAD = [
    (INTEGER, [2, 3.0, True, "3", None], r"`n` must be an integer of at least 3; got .* Use 3 or "),
    (NUMBER, [-0.1, math.nan, math.inf, True, "1", None], "`p` must be a number of at least 0; g"),
    (FRACTION, [1.5], r"`p` must be a number from 0 to 1; got 1.5. Use 0.3"),
    (FINITE, [math.nan], "`p` must be a finite number; got nan"),
    (CHOICE, ["c", 1, None], "`kind` must be one of a, b; got "),
    (shaped, [(2, 5), (2, 2, 5), (2, 1, 5, 1)], SHAPE),
    (checked_folder, [__file__, 3], r"`data_dir` must be the path of a folder; got .*"),
]


@pytest.mark.parametrize(("check", "values", "message"), BAD)
def test_bad_values_are_refused(check, values, message):
    for value in values:
        with pytest.raises(ValueError, match=message) as raised:
            check(value)
        assert check is shaped or f"got {value!r}" in str(raised.value)


def test_good_values_pass(tmp_path):
    for check, value in ((INTEGER, 3), (FRACTION, 0), (FRACTION, 0.5), (CHOICE, "a")):
        check(value)
    check_number("p", 3, minimum=3)
    check_shape(None, SimpleNamespace(shape=(2, 1, 5)), ("B", 1, 5), "", "")
    assert checked_folder(str(tmp_path)) == tmp_path
    assert checked_folder(tmp_path / "new") == tmp_path / "new"
