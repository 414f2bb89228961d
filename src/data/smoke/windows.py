"""Windows of frames: which ones train, validate and test, and how a batch of them is read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset


@dataclass(frozen=True)
class Windows:
    """All windows of one part of the data.

    Attributes:
        simulations: indices of the simulations.
        first: frame at which the first window starts.
        starts: number of windows per simulation; they start at consecutive frames.
        length: frames per window.
    """

    simulations: tuple[int, ...]
    first: int
    starts: int
    length: int

    @property
    def end(self) -> int:
        """The frame behind the last one of the last window."""
        return self.first + self.starts + self.length - 1

    def __len__(self) -> int:
        return len(self.simulations) * self.starts


def published_windows(
    seen: Sequence[int],
    unseen: Sequence[int],
    starts: dict[str, int],
    lengths: dict[str, int],
) -> dict[str, Windows]:
    """Lay train, validation and future windows one behind the other, so that no frame is shared.

    Args:
        seen: simulations that train; their later frames validate and are the ``future`` test.
        unseen: simulations of the ``domain`` test, whose frames are taken from the first on.
        starts: windows per simulation of ``train``, ``val``, ``future`` and ``domain``.
        lengths: frames per window of the same.

    Returns:
        The windows by the same names; ``domain`` only where there are unseen simulations.
    """
    windows: dict[str, Windows] = {}
    first = 0
    for part in ("train", "val", "future"):
        windows[part] = Windows(tuple(seen), first, starts[part], lengths[part])
        first = windows[part].end
    if unseen:
        windows["domain"] = Windows(tuple(unseen), 0, starts["domain"], lengths["domain"])
    return windows


def check_windows(windows: dict[str, Windows], num_frames: int) -> None:
    """Raise unless the simulations are long enough.

    Raises:
        ValueError: naming the windows, the frames that they need and those that there are.
    """
    part, own = max(windows.items(), key=lambda item: item[1].end)
    if own.end > num_frames:
        raise ValueError(
            f"the {part} windows must lie within the {num_frames} stored frames of a simulation; "
            f"got {own.starts} windows of {own.length} frames from frame {own.first} on, which "
            f"need {own.end}. Raise data.num_steps by {own.end - num_frames}, or lower "
            f"data.starts.{part} or the horizon."
        )


class WindowDataset(Dataset):
    """Windows of velocities in memory, from which a loader takes a whole batch with one index.

    Window n is that of simulation ``windows.simulations[n // starts]`` that starts at frame
    ``windows.first + n % starts``. The frames are not copied before a batch is read.

    Args:
        velocities: ``[S, T, 2, H, W]``, contiguous.
        windows: which ones.
    """

    def __init__(self, velocities: Tensor, windows: Windows) -> None:
        self.windows = windows
        self._frames = velocities.flatten(0, 1)
        simulations = np.repeat(np.array(windows.simulations, dtype=np.int64), windows.starts)
        starts = np.tile(np.arange(windows.starts, dtype=np.int64), len(windows.simulations))
        self._rows = simulations * velocities.shape[1] + windows.first + starts

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Tensor:
        """The window ``[L, 2, H, W]`` at ``index``."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """The windows ``[B, L, 2, H, W]`` at ``indices``."""
        length = self.windows.length
        rows = self._rows[np.asarray(indices)][:, None] + np.arange(length)
        frames = self._frames.index_select(0, torch.from_numpy(rows.ravel()))
        return frames.unflatten(0, (-1, length))
