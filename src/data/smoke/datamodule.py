"""Windows of simulated smoke plumes for forecasting, kept in memory."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from src.checks import check_choice, check_integer, checked_folder, wrong
from src.data.loading import InMemoryDataModule
from src.data.smoke.augmentation import group_on_grid, turn_at_random
from src.data.smoke.generation import prepare
from src.data.smoke.plumes import Plume
from src.data.smoke.settings import SmokeSettings
from src.data.smoke.storage import StoredSet
from src.data.smoke.symmetry import data_equivariance_error, turned_plumes
from src.data.smoke.windows import (
    PARTS,
    Task,
    WindowDataset,
    plumes_by_strength,
    published_windows,
    split_plumes,
    strength_windows,
)

log = logging.getLogger(__name__)


class SmokeDataModule(InMemoryDataModule):
    """Velocities of smoke plumes in windows of frames: batches ``[B, T, 2, H, W]``, float32.

    Component 0 points along increasing column index, component 1 along increasing row index, both
    in cells of the stored grid per time unit (one advection step of the smoke). Training and
    validation windows have ``num_inputs + train_horizon`` frames, test windows
    ``num_inputs + test_horizon``.

    With ``split="strength"`` each part has simulations of its own, of strengths of its own, and
    windows over all their frames. With the other splits, along the time of the training tasks lie
    first the training windows, then the validation windows, then those of the ``future`` test; no
    two parts share a frame, unless ``firsts`` says so. The ``domain`` test is on tasks that do not
    train.

    Reference: Wang, Walters and Yu, Approximately equivariant networks for imperfectly symmetric
    dynamics, ICML 2022, section 5.

    Args:
        data_dir: folder of all data; the set lies in its folder ``smoke``.
        name: name of the set.
        plumes: plumes that are simulated; with a ``level``, the function that makes them of it.
        num_steps, skip_frames, velocity_dt, smoke_dt, resolution, layout, dtype: see
            `SmokeSettings`.
        density: whether frames have the density of the smoke as a third channel, also in the file.
        starts: windows per simulation, by the names train, val, future and domain; with
            ``split="strength"`` the most of them, by train, val, unseen and beyond.
        num_inputs: frames that a network is given.
        train_horizon, test_horizon: frames to forecast, in validation as in training.
        split: ``published``, by the lists of tasks; ``side``, all plumes of ``held_out_side``
            are the domain test and none of them trains; ``strength``, by ``strengths``.
        strengths: first labels of the plumes of each part, by its name.
        firsts: first frames of the windows, by the names of the parts, not with
            ``split="strength"``; None: parts lie one behind the other.
        train_tasks: labels of the plumes that train; None: all that are not unseen.
        unseen_tasks: labels of the plumes of the domain test.
        held_out_side: with ``split="side"``: 0 up, 1 left, 2 down, 3 right.
        augment: ``none``, or the name of a group (c4, d4, ...) by whose elements training windows
            are changed, each by one drawn anew in every epoch, pictures and vectors alike. This
            happens on the device, in the hook of a Trainer that is fitting.
        coarsen: average the frames over blocks of this many cells to a side. Velocities at cell
            centres stay turned copies of one another; the unit of velocity stays the same.
        equivariance_frames: first frame, and the frame behind the last one, of which the
            equivariance error of the data is measured; None: of all.
        level: level of symmetry breaking, the argument of ``plumes``.
        device: device on which the set is simulated.
        batch_size, num_workers, seed: see `InMemoryDataModule`.

    Attributes:
        settings: settings of the set.
        windows: `Windows` by the names of the parts; without unseen tasks there is no domain.
        test_names: names of the test loaders, in their order.
        image_shape: shape of a frame, (2, H, W), or (3, H, W) with the density.
        velocity_scale: root mean square of the components in the training frames.
        density_scale: that of the density; None without it.
        equivariance_error: `data_equivariance_error` of the stored frames, in cells per time unit;
            None for sets that are not plumes turned to the four sides, and before ``setup``.

    Raises:
        ValueError: if an option lies outside its range.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike,
        name: str,
        plumes: Sequence[Plume] | Callable[[int], Sequence[Plume]],
        num_steps: int,
        velocity_dt: float,
        starts: Mapping[str, int],
        *,
        skip_frames: int = 0,
        smoke_dt: float = 1.0,
        resolution: int = 64,
        layout: str = "centered",
        dtype: str = "float32",
        density: bool = False,
        num_inputs: int = 10,
        train_horizon: int = 6,
        test_horizon: int = 20,
        split: str = "published",
        strengths: Mapping[str, Sequence[float]] | None = None,
        firsts: Mapping[str, int] | None = None,
        train_tasks: Sequence[Task] | None = None,
        unseen_tasks: Sequence[Task] = (),
        held_out_side: int | None = None,
        augment: str = "none",
        coarsen: int = 1,
        equivariance_frames: Sequence[int] | None = None,
        level: int | None = None,
        device: str = "cpu",
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int | None = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        self.settings = SmokeSettings(
            name=name,
            plumes=tuple(plumes(level) if callable(plumes) else plumes),
            resolution=resolution,
            num_steps=num_steps,
            skip_frames=skip_frames,
            velocity_dt=velocity_dt,
            smoke_dt=smoke_dt,
            layout=layout,
            dtype=dtype,
            density=density,
        )
        self.data_dir = checked_folder(data_dir)
        self.device = device
        check_integer("num_inputs", num_inputs)
        check_integer("train_horizon", train_horizon)
        check_integer("test_horizon", test_horizon)
        check_integer("coarsen", coarsen)
        if resolution % coarsen:
            rule = f"a divisor of the resolution of a frame, {resolution}"
            raise ValueError(wrong("coarsen", rule, coarsen, "data.coarsen=2"))
        self.augmenting_group = group_on_grid(augment)
        self.num_inputs = num_inputs
        self.coarsen = coarsen
        self.image_shape = (2 + density, resolution // coarsen, resolution // coarsen)
        check_choice("split", split, tuple(PARTS))
        if held_out_side is not None and split != "side":
            fix = "data.split=side to hold a side out"
            raise ValueError(wrong("held_out_side", "null without that split", held_out_side, fix))
        parts, num_frames = PARTS[split], self.settings.num_frames
        _check_parts("starts", starts, parts)
        for part in parts:
            check_integer(f"starts.{part}", starts[part])
        lengths = dict.fromkeys(parts[:2], num_inputs + train_horizon)
        lengths |= dict.fromkeys(parts[2:], num_inputs + test_horizon)
        if split == "strength":
            _check_parts("strengths", strengths, parts)
            simulations = plumes_by_strength(self.settings.plumes, strengths)
            self.windows = strength_windows(simulations, starts, lengths, num_frames)
        else:
            if firsts is not None:
                _check_parts("firsts", firsts, parts)
            tasks = (train_tasks, unseen_tasks)
            seen, unseen = split_plumes(self.settings.plumes, split, held_out_side, *tasks)
            self.windows = published_windows(seen, unseen, starts, lengths, num_frames, firsts)
        self.test_names = tuple(part for part in parts[2:] if part in self.windows)
        first, end = (0, num_frames) if equivariance_frames is None else equivariance_frames
        if not 0 <= first < end <= num_frames:
            rule = f"null, or the first and the end of a range within {num_frames} frames"
            fix = "data.equivariance_frames=null"
            raise ValueError(wrong("equivariance_frames", rule, equivariance_frames, fix))
        self.equivariance_frames = (first, end)
        self.equivariance_error: float | None = None
        self.velocity_scale: float | None = None
        self.density_scale: float | None = None

    def prepare_data(self) -> None:
        """Simulate the set once; see `src.data.smoke.generation.prepare`."""
        prepare(self.settings, self.data_dir, self.device)

    def setup(self, stage: str | None = None) -> None:
        """Read the set, compare its checksums, and start the order of the windows anew."""
        self._start_streams()
        if self._datasets:
            return
        stored = torch.from_numpy(self.stored_set().read())
        self.equivariance_error = self.measure_equivariance(stored)
        frames = stored.float()
        if self.coarsen > 1:
            frames = torch.stack([block_means(own, self.coarsen) for own in stored])
        self._datasets = {
            part: WindowDataset(frames, windows) for part, windows in self.windows.items()
        }
        train = self.windows["train"]
        trained = frames[list(train.simulations), train.starts[0] : train.end]
        self.velocity_scale = trained[:, :, :2].double().square().mean().sqrt().item()
        if self.settings.density:
            self.density_scale = trained[:, :, 2].double().square().mean().sqrt().item()
        if self.equivariance_error is not None and self._position()[1] == 0:
            error = self.equivariance_error
            log.info("Equivariance error of the data %s: %.3f", self.settings.name, error)

    def stored_set(self) -> StoredSet:
        """The set on disk, mapped into memory."""
        return StoredSet.open(self.settings.path(self.data_dir), self.settings)

    def measure_equivariance(self, stored: Tensor) -> float | None:
        """The equivariance error of the velocities of stored frames; see the attribute."""
        groups = turned_plumes(self.settings.plumes)
        if groups is None:
            return None
        frames, layout = slice(*self.equivariance_frames), self.settings.layout
        errors = [data_equivariance_error(stored[group, frames, :2], layout) for group in groups]
        return sum(errors) / len(errors)

    def test_dataloader(self) -> list[DataLoader]:
        """One loader for each of ``test_names``, always in the same order."""
        return [self._loader(self._dataset(part)) for part in self.test_names]

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
        """Change training windows on their device, if ``augment`` names a group."""
        if not (self.trainer is not None and self.trainer.training):
            return batch
        return self._as_trained(batch, self._augmentation_stream(self.trainer.current_epoch))

    def _as_trained(self, batch: Tensor, generator: Generator) -> Tensor:
        group = self.augmenting_group
        return batch if group is None else turn_at_random(batch, group, generator)


def block_means(frames: Tensor, size: int) -> Tensor:
    """Means over blocks of ``size`` x ``size`` cells of frames ``[T, C, H, W]``, in float32.

    Summed in float64, so that frames that are turned copies stay so bit for bit.
    """
    return F.avg_pool2d(frames.double(), size).float()


def _check_parts(name: str, given: object, parts: Sequence[str]) -> None:
    if not isinstance(given, Mapping) or not set(parts) <= set(given):
        rule = f"given by the names {', '.join(parts)} with this data.split"
        raise ValueError(wrong(name, rule, given, f"e.g. data.{name}.{parts[0]}=..."))
