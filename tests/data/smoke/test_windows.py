import pytest
import torch

from src.data.smoke.plumes import rotation_plumes, scale_plumes, strength_plumes
from src.data.smoke.windows import (
    WindowDataset,
    Windows,
    plumes_by_strength,
    published_windows,
    split_plumes,
    strength_windows,
)

PLUMES = rotation_plumes(8, inflow=(8, 3), radius=2, buoyancy=[0.01] * 4, resolution=16)
ALL = [plume.task for plume in PLUMES]
STARTS = {"train": 160, "val": 40, "future": 50, "domain": 100}
LENGTHS = {"train": 16, "val": 16, "future": 30, "domain": 30}


@pytest.mark.parametrize(
    ("options", "split"),
    [
        (("published", None, None, []), ([*range(8)], [])),
        (("published", None, None, [[3, 2], [8, 3]]), ([0, 1, 3, 4, 5, 6], [2, 7])),
        (("published", None, [(5, 0), (1, 0)], [(2, 1)]), ([4, 0], [1])),
        (("side", 0, [(1, 0)], [(2, 1)]), ([1, 2, 3, 5, 6, 7], [0, 4])),
        (("side", 3, None, []), ([0, 1, 2, 4, 5, 6], [3, 7])),
    ],
)
def test_plumes_that_train_and_that_are_unseen(options, split):
    """Labels are found whatever their last digit."""
    assert split_plumes(PLUMES, *options) == split
    plumes = scale_plumes((1, 1 + 3 * 0.1), inflow=(8, 3), radius=2, buoyancy=1, resolution=16)
    assert split_plumes(plumes, "published", None, None, [[1.3 + 1e-15]]) == ([0], [1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("side", None, None, []), r"`held_out_side` must .*got None .*0 \(up\), 1 \(left\)"),
        (("side", 4, None, []), "`held_out_side` must be one of at least two .*got 4"),
        (("published", None, None, [(9, 9)]), r"`unseen_tasks` must be labels .*\[\[9, 9\]\]"),
        (("published", None, [(9, 9)], []), "`train_tasks` must be labels"),
        (("published", None, [(1, 0)], [(1, 0)]), r"`train_tasks` must name .*got \[\(1, 0\)\]"),
        (("published", None, None, ALL), "`train_tasks` must name .*got none"),
    ],
)
def test_wrong_splits_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        split_plumes(PLUMES, *options)
    with pytest.raises(ValueError, match=r"at least two sides .*got 0 for a set of the sides 0"):
        split_plumes(PLUMES[::4], "side", 0, None, [])


def test_the_published_windows():
    windows = published_windows([0, 1], [2], STARTS, LENGTHS, 309)
    kept = {part: (own.simulations, own.starts[0], own.end) for part, own in windows.items()}
    seen = {"train": ((0, 1), 0, 175), "val": ((0, 1), 175, 230), "future": ((0, 1), 230, 309)}
    assert kept == seen | {"domain": ((2,), 0, 129)}
    assert "domain" not in published_windows([0, 1], [], STARTS, LENGTHS, 309)
    message = "the future windows must lie within the 300 stored .*Raise data.num_steps by 9, or"
    with pytest.raises(ValueError, match=message):
        published_windows([0, 1], [2], STARTS, LENGTHS, 300)


def test_windows_that_share_frames_start_where_they_are_told():
    firsts = {"train": 2, "val": 32, "future": 32, "domain": 7}
    windows = published_windows([0], [1], dict.fromkeys(firsts, 10), LENGTHS, 80, firsts)
    starts = {part: own.starts for part, own in windows.items()}
    assert starts == {part: range(first, first + 10) for part, first in firsts.items()}


BY_STRENGTH = {"train": [0.5, 1.0], "val": [0.7], "unseen": [0.8], "beyond": [2]}
OPTIONS = {"inflow": (8, 3), "radius": 2, "buoyancy": 0.1, "resolution": 16, "offsets": [-1, 1]}


@pytest.mark.parametrize(
    ("starts", "num_frames", "expected"),  # frames at which windows of 8 or 22 frames start
    [
        ((90, 3, 3, 1), 24, ([*range(17)], [0, 8, 16], [0, 1, 2], [0])),
        ((2, 2, 1, 90), 90, ([0, 82], [0, 82], [0], [*range(69)])),
        ((9, 9, 9, 9), 22, ([0, 2, 4, 5, 7, 9, 10, 12, 14], None, [0], [0])),
    ],
)
def test_parts_by_strength_share_no_simulation_and_are_of_the_same_frames(
    starts, num_frames, expected
):
    plumes = strength_plumes(0, strengths=BY_STRENGTH, **OPTIONS)
    starts, lengths = (dict(zip(BY_STRENGTH, given)) for given in (starts, (8, 8, 22, 22)))
    simulations = plumes_by_strength(plumes, BY_STRENGTH)
    windows = strength_windows(simulations, starts, lengths, num_frames)
    for (part, own), frames in zip(windows.items(), expected):
        assert {plumes[i].task[0] for i in own.simulations} == set(BY_STRENGTH[part])
        assert frames is None or own.starts == frames
        assert own.starts[0] == 0 and (len(own.starts) == 1 or own.end == num_frames)
    together = [index for own in windows.values() for index in own.simulations]
    assert sorted(together) == list(range(len(plumes))) == list(range(5 * 2 * 4))


@pytest.mark.parametrize("level", range(10))
def test_no_plume_of_a_part_is_a_turned_or_mirrored_copy_of_one_of_another(level):
    strengths = {"train": [0.5, 1.0], "val": [0.7], "unseen": [1.4], "beyond": [2]}
    plumes = strength_plumes(level, strengths=strengths, **OPTIONS)
    parts = plumes_by_strength(plumes, strengths)
    assert len(parts["train"]) == 2 * 2 * 4 and all(parts.values())
    seen = set()
    for part, own in parts.items():  # in whole numbers, of which equal ones are so exactly
        buoyancies = [round(10 * p.task[0]) * (2 + p.side * level) for p in plumes]
        of_part = [i for i, plume in enumerate(plumes) if plume.task[0] in strengths[part]]
        assert own == [i for i in of_part if buoyancies[i] not in seen]
        seen |= {buoyancies[i] for i in of_part}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": [0.5]}, r"`strengths` must give every part .* of its own, .*got \[0.5\] twice"),
        ({"unseen": []}, r"`strengths` must give every part .*got \{.*'unseen': \[\]"),
        ({"beyond": [3]}, r"`strengths` must be first labels of simulated plumes; got \[3\]"),
    ],
)
def test_wrong_strengths_are_refused(change, message):
    plumes = strength_plumes(0, strengths=BY_STRENGTH, **OPTIONS)
    with pytest.raises(ValueError, match=message):
        plumes_by_strength(plumes, BY_STRENGTH | change)


def test_simulations_too_short_for_one_window_are_refused():
    message = (
        "the unseen windows .* 21 stored .* 22 frames .*Raise data.num_steps by 1, or .*inputs"
    )
    with pytest.raises(ValueError, match=message):
        strength_windows({"unseen": [0]}, {"unseen": 8}, {"unseen": 22}, 21)


def test_a_batch_is_read_at_once_and_holds_every_window_once():
    names = torch.arange(3)[:, None] * 100 + torch.arange(9)  # of simulation and frame
    velocities = names[:, :, None, None, None].float().expand(-1, -1, 2, 2, 2).contiguous()
    windows = Windows((2, 0), starts=range(3, 7), length=2)
    dataset = WindowDataset(velocities, windows)
    assert len(dataset) == len(windows) == 8
    batch = dataset.__getitems__(range(8))
    assert batch.shape == (8, 2, 2, 2, 2)
    found = batch[..., 0, 0, 0].tolist()
    assert found == [[s * 100 + t, s * 100 + t + 1] for s in (2, 0) for t in (3, 4, 5, 6)]
    again = torch.stack([dataset[index] for index in (7, 0, 7)])
    assert torch.equal(dataset.__getitems__([7, 0, 7]), again)
    batch.fill_(-1)
    assert velocities.min() == 0, "a batch is a copy"
