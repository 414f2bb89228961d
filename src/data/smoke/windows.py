"""Windows of frames: which ones train, validate and test, and how a batch of them is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.checks import wrong
from src.data.samples import spread
from src.data.smoke.plumes import SIDES, Plume, up_to_turns

PARTS = {  # of the data, by the split; the last two of each are tests
    "published": ("train", "val", "future", "domain"),
    "side": ("train", "val", "future", "domain"),
    "strength": ("train", "val", "unseen", "beyond"),
}

Task = Sequence[float]


def split_plumes(
    plumes: Sequence[Plume],
    split: str,
    held_out_side: int | None,
    train_tasks: Sequence[Task] | None,
    unseen_tasks: Sequence[Task],
) -> tuple[list[int], list[int]]:
    """Indices of the simulations that train, and of those kept for the test on unseen tasks.

    The options are those of `SmokeDataModule`, with the split ``published`` or ``side``.

    Raises:
        ValueError: if a label is not that of a plume or stands in both lists, no plume trains, or
            there are no plumes of the side, or none of another.
    """
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


def plumes_by_strength(
    plumes: Sequence[Plume], strengths: Mapping[str, Sequence[float]]
) -> dict[str, list[int]]:
    """Indices of the simulations of each part, whose first label is one of the part's strengths.

    But without those that are turned or mirrored copies of one of an earlier part: where the
    sides differ, a weak plume of a strong side may have the buoyancy of another strength.

    Raises:
        ValueError: if a part has no strength or one of another part, or no plume has one.
    """
    listed = [strength for part in PARTS["strength"] for strength in strengths[part]]
    twice = sorted({strength for strength in listed if listed.count(strength) > 1})
    if twice or not all(strengths.values()):
        raise ValueError(
            "`strengths` must give every part strengths of its own, so that no simulation is in "
            f"two parts; got {f'{twice} twice' if twice else dict(strengths)}. Use e.g. "
            "data.strengths.unseen=[0.7,1.1]."
        )
    first = [plume.task[0] for plume in plumes]
    unknown = [strength for strength in listed if strength not in first]
    if unknown:
        fix = "data=smoke_strengths"
        raise ValueError(wrong("strengths", "first labels of simulated plumes", unknown, fix))
    parts: dict[str, list[int]] = {}
    before: set[tuple[float, ...]] = set()
    for part in PARTS["strength"]:
        kinds = {i: up_to_turns(plumes[i]) for i, k in enumerate(first) if k in strengths[part]}
        parts[part] = [index for index, kind in kinds.items() if kind not in before]
        before.update(kinds.values())
    return parts


@dataclass(frozen=True)
class Windows:
    """All windows of one part of the data.

    In each of the simulations, a window of ``length`` frames starts at each frame of ``starts``,
    which grow.
    """

    simulations: tuple[int, ...]
    starts: Sequence[int]
    length: int

    @property
    def end(self) -> int:
        """The frame behind the last one of the last window."""
        return self.starts[-1] + self.length

    def __len__(self) -> int:
        return len(self.simulations) * len(self.starts)


def published_windows(
    seen: Sequence[int],
    unseen: Sequence[int],
    starts: Mapping[str, int],
    lengths: Mapping[str, int],
    num_frames: int,
    firsts: Mapping[str, int] | None = None,
) -> dict[str, Windows]:
    """Windows at consecutive frames: train, validation and future windows one behind the other.

    Args:
        seen: simulations that train; their later frames validate and are the ``future`` test.
        unseen: simulations of the ``domain`` test, taken from their first frame on; maybe none.
        starts, lengths: windows per simulation, and frames per window, by the names of the parts.
        num_frames: frames of each simulation.
        firsts: first frames of the parts' windows; None: such that no frame is shared.

    Raises:
        ValueError: if the simulations are too short.
    """
    windows: dict[str, Windows] = {}
    free = 0
    for part in ("train", "val", "future"):
        first = firsts[part] if firsts else free
        own = range(first, first + starts[part])
        windows[part] = Windows(tuple(seen), own, lengths[part])
        free = windows[part].end
    if unseen:
        first = firsts["domain"] if firsts else 0
        own = range(first, first + starts["domain"])
        windows["domain"] = Windows(tuple(unseen), own, lengths["domain"])
    part, last = max(windows.items(), key=lambda item: item[1].end)
    if last.end > num_frames:
        raise _too_short(part, last, num_frames)
    return windows


def strength_windows(
    simulations: Mapping[str, Sequence[int]],
    starts: Mapping[str, int],
    lengths: Mapping[str, int],
    num_frames: int,
) -> dict[str, Windows]:
    """Windows at equal distances over all frames, of simulations of each part's own.

    So all parts are of the same phases of the flow. ``starts`` are the most windows per
    simulation; the other arguments are those of `published_windows`, by part.

    Raises:
        ValueError: if the simulations are too short.
    """
    windows: dict[str, Windows] = {}
    for part, own in simulations.items():
        places = num_frames - lengths[part] + 1
        if places < 1:
            raise _too_short(part, Windows(tuple(own), (0,), lengths[part]), num_frames)
        windows[part] = Windows(tuple(own), spread(places, starts[part]), lengths[part])
    return windows


def _too_short(part: str, windows: Windows, num_frames: int) -> ValueError:
    return ValueError(
        f"the {part} windows must lie within the {num_frames} stored frames of a simulation; "
        f"got {len(windows.starts)} windows of {windows.length} frames from frame "
        f"{windows.starts[0]} on. Raise data.num_steps by {windows.end - num_frames}, or lower "
        f"data.starts.{part}, data.num_inputs or the horizon."
    )


class WindowDataset(Dataset):
    """Windows of frames in memory, from which a loader takes a whole batch with one index.

    Windows are ordered by simulation, those of one by their first frames. The frames
    ``[S, T, C, H, W]``, which must be contiguous, are not copied before a batch is read.
    """

    def __init__(self, frames: Tensor, windows: Windows) -> None:
        self.windows = windows
        self._frames = frames.flatten(0, 1)
        simulations = np.array(windows.simulations, dtype=np.int64)[:, None]
        starts = np.array(windows.starts, dtype=np.int64)
        self._rows = (simulations * frames.shape[1] + starts).ravel()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Tensor:
        """The window ``[L, C, H, W]`` at ``index``."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """The windows ``[B, L, C, H, W]`` at ``indices``."""
        length = self.windows.length
        rows = self._rows[np.asarray(indices)][:, None] + np.arange(length)
        frames = self._frames.index_select(0, torch.from_numpy(rows.ravel()))
        return frames.unflatten(0, (-1, length))
