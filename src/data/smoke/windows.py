"""Windows of frames: which ones train, validate and test, and how a batch of them is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.checks import check_choice, wrong
from src.data.smoke.plumes import SIDES, Plume

PARTS = ("train", "val", "future", "domain")
SPLITS = ("published", "side")

Task = Sequence[float]


def split_plumes(
    plumes: Sequence[Plume],
    split: str,
    held_out_side: int | None,
    train_tasks: Sequence[Task] | None,
    unseen_tasks: Sequence[Task],
) -> tuple[list[int], list[int]]:
    """Indices of the simulations that train, and of those kept for the test on unseen tasks.

    The options are those of `SmokeDataModule`.

    Raises:
        ValueError: if a label is not that of a plume or stands in both lists, no plume trains, or
            there are no plumes of the side, or none of another.
    """
    check_choice("split", split, SPLITS)
    if split == "side":
        sides = sorted({plume.side for plume in plumes})
        if held_out_side not in sides or len(sides) < 2:
            names = ", ".join(f"{side} ({SIDES[side]})" for side in sides)
            raise ValueError(
                "`held_out_side` must be one of at least two sides that the set has with "
                f"data.split=side; got {held_out_side!r} for a set of the sides {names}. Use "
                "data=smoke_rotation data.held_out_side=3."
            )
        unseen = [index for index, plume in enumerate(plumes) if plume.side == held_out_side]
        return [index for index in range(len(plumes)) if index not in unseen], unseen
    if held_out_side is not None:
        fix = "data.split=side to hold a side out"
        raise ValueError(wrong("held_out_side", "null without that split", held_out_side, fix))
    unseen = _indices(plumes, "unseen_tasks", unseen_tasks)
    seen = [index for index in range(len(plumes)) if index not in unseen]
    if train_tasks is not None:
        seen = _indices(plumes, "train_tasks", train_tasks)
    both = [plumes[index].task for index in seen if index in unseen]
    if both or not seen:
        raise ValueError(
            "`train_tasks` must name at least one task, and none that `unseen_tasks` names too; "
            f"got {both or 'none'}. Use data.unseen_tasks=[] to train on all."
        )
    return seen, unseen


def _indices(plumes: Sequence[Plume], name: str, tasks: Sequence[Task]) -> list[int]:
    def label(task: Task) -> tuple[float, ...]:
        return tuple(round(float(number), 9) for number in task)  # 1.1 is the same as 1 + 0.1

    labels = {label(plume.task): index for index, plume in enumerate(plumes)}
    unknown = [list(task) for task in tasks if label(task) not in labels]
    if unknown:
        known = ", ".join(str(list(plume.task)) for plume in plumes[:3])
        rule = f"labels of simulated plumes, such as {known}"
        raise ValueError(wrong(name, rule, unknown, "others, or simulate them too"))
    return [labels[label(task)] for task in tasks]


@dataclass(frozen=True)
class Windows:
    """All windows of one part of the data.

    In each of the simulations, ``starts`` windows of ``length`` frames start at consecutive frames,
    from the frame ``first`` on.
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
    starts: Mapping[str, int],
    lengths: Mapping[str, int],
    num_frames: int,
) -> dict[str, Windows]:
    """Lay train, validation and future windows one behind the other, so that no frame is shared.

    Args:
        seen: simulations that train; their later frames validate and are the ``future`` test.
        unseen: simulations of the ``domain`` test, taken from their first frame on; maybe none.
        starts, lengths: windows per simulation, and frames per window, by the names in ``PARTS``.
        num_frames: frames of each simulation.

    Raises:
        ValueError: if the simulations are too short.
    """
    windows: dict[str, Windows] = {}
    first = 0
    for part in ("train", "val", "future"):
        windows[part] = Windows(tuple(seen), first, starts[part], lengths[part])
        first = windows[part].end
    if unseen:
        windows["domain"] = Windows(tuple(unseen), 0, starts["domain"], lengths["domain"])
    part, own = max(windows.items(), key=lambda item: item[1].end)
    if own.end > num_frames:
        raise ValueError(
            f"the {part} windows must lie within the {num_frames} stored frames of a simulation; "
            f"got {own.starts} windows of {own.length} frames from frame {own.first} on. Raise "
            f"data.num_steps by {own.end - num_frames}, or lower data.starts.{part} or the horizon."
        )
    return windows


class WindowDataset(Dataset):
    """Windows of velocities in memory, from which a loader takes a whole batch with one index.

    Window n is that of simulation ``windows.simulations[n // starts]`` that starts at frame
    ``windows.first + n % starts``. The frames of the velocities ``[S, T, 2, H, W]``, which must be
    contiguous, are not copied before a batch is read.
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
