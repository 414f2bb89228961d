"""Everything that decides what a set of simulations holds."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from src.checks import check_choice, check_integer
from src.data.smoke.plumes import Plume
from src.data.smoke.simulation import DTYPES, LAYOUTS

# Raise it when simulation or storage change what a file holds: older files are then left alone.
_VERSION = 1


@dataclass(frozen=True)
class SmokeSettings:
    """Settings of one stored set: the same settings give the same file.

    Lengths are in cells of a simulation's own grid; the time unit is one advection step of the
    smoke at ``smoke_dt`` 1. Velocities are in cells per time unit; those of a plume that is
    magnified by f are divided by f and so are in cells of the stored grid.

    Attributes:
        name: of the set; the first part of its file's name.
        plumes: what is simulated, in the order in which it is stored.
        resolution: cells along each side of the stored frames. A plume simulated at
            ``magnification`` f has about f times as many, and is resampled.
        num_steps: time steps of every simulation.
        skip_frames: how many of the first steps are not stored; frame 0 of the set is what
            step ``skip_frames`` (counted from 0) ends with.
        velocity_dt: time by which the velocity is advected in a step, in time units.
        smoke_dt: time by which the smoke is advected in a step, in time units.
        layout: ``centered``, velocities at the cells' centres; ``staggered_cropped``, both
            components at the lower faces of the cells, as in the published files.
        dtype: ``float32`` or ``float64``, of the simulation and of the file.

    Raises:
        TypeError, ValueError: naming the setting, the rule, the value and a fix.
    """

    name: str
    plumes: tuple[Plume, ...]
    resolution: int
    num_steps: int
    skip_frames: int
    velocity_dt: float
    smoke_dt: float = 1.0
    layout: str = "centered"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "plumes", tuple(self.plumes))
        check_choice("layout", self.layout, LAYOUTS)
        check_choice("dtype", self.dtype, DTYPES)
        check_integer("resolution", self.resolution, minimum=1)
        check_integer("num_steps", self.num_steps, minimum=1)
        check_integer("skip_frames", self.skip_frames, minimum=0)
        if self.skip_frames >= self.num_steps:
            raise ValueError(
                "`skip_frames` must be less than `num_steps`, or no frame is left; got "
                f"{self.skip_frames} of {self.num_steps}. Use data.skip_frames=0."
            )
        self._check_plumes()

    @property
    def num_frames(self) -> int:
        """Number of stored frames per simulation."""
        return self.num_steps - self.skip_frames

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape ``[S, T, 2, H, W]`` of the stored velocities."""
        return stored_shape(self.as_json())

    def as_json(self) -> str:
        """All settings as text; equal for equal settings, whether 1 was written or 1.0."""
        return json.dumps({"version": _VERSION, **_plain(asdict(self))}, sort_keys=True)

    def digest(self) -> str:
        """A hash of all settings, the same in every process and on every machine."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()

    def path(self, data_dir: Path) -> Path:
        """The file of the set below ``data_dir``."""
        return data_dir / "smoke" / f"{self.name}-{self.digest()[:8]}.b2nd"

    def _check_plumes(self) -> None:
        if not self.plumes:
            raise ValueError(
                "`plumes` must hold at least one plume; got none. Choose a set, e.g. "
                "data=smoke_rotation."
            )
        others = {p.resolution for p in self.plumes if p.magnification == 1}
        if others - {self.resolution}:
            raise ValueError(
                "plumes that are not magnified must be simulated at the `resolution` of the "
                f"stored frames, {self.resolution}; got {sorted(others)}. Set data.resolution and "
                "the plumes' resolution to the same number."
            )


def stored_shape(settings: str) -> tuple[int, int, int, int, int]:
    """Shape ``[S, T, 2, H, W]`` of a set, from the text of its settings."""
    read = json.loads(settings)
    frames = read["num_steps"] - read["skip_frames"]
    return len(read["plumes"]), frames, 2, read["resolution"], read["resolution"]


def difference(first: str, second: str) -> str:
    """Names of the settings in which two results of `SmokeSettings.as_json` differ."""
    one, other = json.loads(first), json.loads(second)
    names = ["version", *(field.name for field in fields(SmokeSettings))]
    return ", ".join(name for name in names if one.get(name) != other.get(name))


def _plain(value: Any) -> Any:
    """Lists, texts and numbers, whole numbers as integers."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
