import pytest
import torch

from src.data.smoke.plumes import rotation_plumes, scale_plumes
from src.data.smoke.windows import WindowDataset, Windows, published_windows, split_plumes

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
        (("time", None, None, []), "`split` must be one of published, side; got 'time'"),
        (("published", 2, None, []), "`held_out_side` must be null .*got 2. Use data.split=side"),
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
    kept = {part: (own.simulations, own.first, own.end) for part, own in windows.items()}
    seen = {"train": ((0, 1), 0, 175), "val": ((0, 1), 175, 230), "future": ((0, 1), 230, 309)}
    assert kept == seen | {"domain": ((2,), 0, 129)}
    assert "domain" not in published_windows([0, 1], [], STARTS, LENGTHS, 309)
    message = "the future windows must lie within the 300 stored .*Raise data.num_steps by 9, or"
    with pytest.raises(ValueError, match=message):
        published_windows([0, 1], [2], STARTS, LENGTHS, 300)


def test_a_batch_is_read_at_once_and_holds_every_window_once():
    names = torch.arange(3)[:, None] * 100 + torch.arange(9)  # of simulation and frame
    velocities = names[:, :, None, None, None].float().expand(-1, -1, 2, 2, 2).contiguous()
    windows = Windows((2, 0), first=3, starts=4, length=2)
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
