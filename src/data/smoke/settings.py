"""Everything that decides what a set of simulations holds."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from src.checks import check_choice, check_integer, wrong
from src.data.smoke.plumes import Plume
from src.data.smoke.simulation import LAYOUTS

DTYPES = ("float32", "float64")

# Raise it when simulation or storage change what a file holds: older files are then left alone.
_VERSION = 2


@dataclass(frozen=True)
class SmokeSettings:
    """Settings of one stored set: the same settings give the same file.

    Lengths are in cells of a simulation's own grid; the time unit is one advection step of the
    smoke at ``smoke_dt`` 1. Velocities are in cells per time unit; those of a plume that is
    magnified by f are divided by f and so are in cells of the stored grid.

    Attributes:
        name: name of the set; the first part of its file's name.
        plumes: plumes that are simulated, in the order in which they are stored.
        resolution: cells along each side of the stored frames. A plume simulated at
            ``magnification`` f has about f times as many, and is resampled.
        num_steps: time steps of every simulation.
        skip_frames: number of first steps whose frames are not stored.
        velocity_dt, smoke_dt: times by which velocity and smoke are advected in a step.
        layout: ``centered``, velocities at the cells' centres; ``staggered_cropped``, both
            components at the lower faces of the cells, as in the published files.
        dtype: ``float32`` or ``float64``, of the simulation and of the file.
        density: whether the density of the smoke is stored too.

    Raises:
        ValueError: names the setting, the rule, the value and a fix.
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
    density: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "plumes", tuple(self.plumes))
        check_choice("layout", self.layout, LAYOUTS)
        check_choice("dtype", self.dtype, DTYPES)
        if not isinstance(self.density, bool):
            raise ValueError(wrong("density", "true or false", self.density, "data.density=true"))
        check_integer("num_steps", self.num_steps)
        check_integer("skip_frames", self.skip_frames, minimum=0)
        if self.skip_frames >= self.num_steps:
            rule = f"less than num_steps, {self.num_steps}, or no frame is left"
            raise ValueError(wrong("skip_frames", rule, self.skip_frames, "data.skip_frames=0"))
        for name in ("velocity_dt", "smoke_dt"):
            if not getattr(self, name) > 0:
                raise ValueError(wrong(name, "a positive time", getattr(self, name), "1"))
        if not self.plumes:
            raise ValueError(wrong("plumes", "at least one plume", [], "data=smoke_rotation"))
        others = {p.resolution for p in self.plumes if p.magnification == 1} - {self.resolution}
        if others:
            raise ValueError(
                "plumes that are not magnified must be simulated at the `resolution` of the "
                f"stored frames, {self.resolution}; got {sorted(others)}. Set data.resolution and "
                "the plumes' resolution to the same number."
            )

    @property
    def num_frames(self) -> int:
        """Number of stored frames per simulation."""
        return self.num_steps - self.skip_frames

    def as_json(self) -> str:
        """All settings as text; equal for equal settings, whether 1 was written or 1.0.

        Without density as in versions that did not know it, so that their files are found.
        """

        def number(text: str) -> int | float:
            value = float(text)
            return int(value) if value.is_integer() else value

        plain = json.loads(json.dumps(asdict(self)), parse_float=number)
        if not plain["density"]:
            del plain["density"]
        return json.dumps({"version": _VERSION, **plain}, sort_keys=True)

    def path(self, data_dir: Path) -> Path:
        """The file of the set below ``data_dir``; its name ends in a hash of all settings."""
        digest = hashlib.sha256(self.as_json().encode()).hexdigest()
        return data_dir / "smoke" / f"{self.name}-{digest[:8]}.b2nd"
