import dataclasses

import pytest

from src.data.smoke.plumes import rotation_plumes, scale_plumes
from src.data.smoke.tasks import split_plumes
from tests.helpers.fake_plumes import tiny_plumes

LABELS = [(k, (k - 1) % 4) for k in range(1, 9)]
PLUMES = rotation_plumes(8, inflow=(8, 3), radius=2, buoyancy=[0.01] * 4, resolution=16)


def test_all_that_are_not_unseen_train():
    assert split_plumes(PLUMES, "published", None, None, []) == (list(range(8)), [])
    split = split_plumes(PLUMES, "published", None, None, [[3, 2], [8, 3]])
    assert split == ([0, 1, 3, 4, 5, 6], [2, 7])


def test_the_tasks_that_train_may_be_named():
    split = split_plumes(PLUMES, "published", None, [(5, 0), (1, 0)], [(2, 1)])
    assert split == ([4, 0], [1])


def test_labels_are_found_whatever_their_last_digit():
    plumes = scale_plumes((1, 1 + 0.1 * 2), inflow=(8, 3), radius=2, buoyancy=1, resolution=16)
    assert 1 + 0.1 * 2 != 1.2 or plumes[1].task == (1.2,)
    assert split_plumes(plumes, "published", None, None, [[1.2]]) == ([0], [1])


@pytest.mark.parametrize("side", range(4))
def test_a_side_is_held_out_whatever_the_lists_say(side):
    seen, unseen = split_plumes(PLUMES, "side", side, [(1, 0)], [(2, 1)])
    assert unseen == [side, side + 4]
    assert sorted(seen + unseen) == list(range(8))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ("time", None, None, []),
            ValueError,
            "`split` must be one of published, side; got 'time'",
        ),
        ((3, None, None, []), TypeError, "`split` must be one of published, side; got 3"),
        (("published", 2, None, []), ValueError, "`held_out_side` must be null .*got 2. Use data."),
        (
            ("side", None, None, []),
            ValueError,
            r"`held_out_side` must .*got None .*0 \(up\), 1 \(l",
        ),
        (("side", 4, None, []), ValueError, "`held_out_side` must be one of at least two .*got 4"),
        (
            ("published", None, None, [(9, 9)]),
            ValueError,
            r"`unseen_tasks` must hold labels .* as \[1, 0\].*got \[\[9, 9\]\]. Leave them out",
        ),
        (("published", None, [(9, 9)], []), ValueError, "`train_tasks` must hold labels"),
        (
            ("published", None, [(1, 0)], [(1, 0)]),
            ValueError,
            r"`train_tasks` must name at least .*got \[\(1, 0\)\]. Use data.unseen_tasks=\[\]",
        ),
        (("published", None, [], []), ValueError, "`train_tasks` must name .*got none"),
        (("published", None, None, LABELS), ValueError, "`train_tasks` must name .*got none"),
    ],
)
def test_wrong_splits_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        split_plumes(PLUMES, *arguments)


def test_a_set_of_one_side_cannot_hold_it_out():
    plumes = [dataclasses.replace(plume, side=0) for plume in tiny_plumes()]
    with pytest.raises(ValueError, match=r"at least two sides .*got 0 for a set of the sides 0"):
        split_plumes(plumes, "side", 0, None, [])
