import pytest
import torch

from src.data.smoke.windows import (
    WindowDataset,
    Windows,
    check_windows,
    published_windows,
)

STARTS = {"train": 160, "val": 40, "future": 50, "domain": 100}
LENGTHS = {"train": 16, "val": 16, "future": 30, "domain": 30}


def numbered(simulations=3, frames=9):
    """Velocities whose values name simulation and frame."""
    names = torch.arange(simulations)[:, None] * 100 + torch.arange(frames)
    return names[:, :, None, None, None].float().expand(-1, -1, 2, 2, 2).contiguous()


def test_the_published_windows():
    windows = published_windows([0, 1], [2], STARTS, LENGTHS)
    assert windows["train"] == Windows((0, 1), 0, 160, 16)
    assert windows["val"] == Windows((0, 1), 175, 40, 16)
    assert windows["future"] == Windows((0, 1), 230, 50, 30)
    assert windows["domain"] == Windows((2,), 0, 100, 30)
    ends = {part: own.end for part, own in windows.items()}
    assert ends == {"train": 175, "val": 230, "future": 309, "domain": 129}
    assert "domain" not in published_windows([0, 1], [], STARTS, LENGTHS)


def test_windows_longer_than_the_simulation():
    windows = published_windows([0], [1], STARTS, LENGTHS)
    check_windows(windows, 309)
    message = (
        "the future windows must lie within the 300 stored frames .*got 50 windows of 30 frames "
        "from frame 230 on, which need 309. Raise data.num_steps by 9, or lower data.starts.future"
    )
    with pytest.raises(ValueError, match=message):
        check_windows(windows, 300)


def test_every_window_of_every_simulation_is_there_once():
    windows = Windows((2, 0), first=3, starts=4, length=2)
    dataset = WindowDataset(numbered(), windows)
    assert len(dataset) == len(windows) == 8
    found = [dataset[n][:, 0, 0, 0].tolist() for n in range(8)]
    assert found == [[s * 100 + t, s * 100 + t + 1] for s in (2, 0) for t in (3, 4, 5, 6)]


def test_a_batch_is_read_at_once_and_equals_single_windows():
    dataset = WindowDataset(numbered(), Windows((1, 2), 0, 6, 4))
    indices = [7, 0, 11, 7]
    batch = dataset.__getitems__(indices)
    assert batch.shape == (4, 4, 2, 2, 2)
    assert torch.equal(batch, torch.stack([dataset[n] for n in indices]))


def test_a_batch_is_a_copy_and_the_data_set_is_none():
    velocities = numbered()
    dataset = WindowDataset(velocities, Windows((0,), 0, 6, 4))
    dataset.__getitems__([0]).fill_(-1)
    assert velocities.min() == 0
    velocities += 1
    assert dataset[0].min() == 1
