"""The part of a step that PhiFlow makes: smoke and velocity carried along, and buoyancy.

Importing this module imports PhiFlow, which takes seconds; `simulation` does so when needed.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from src.checks import wrong
from src.data.smoke.plumes import Plume

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PhiFlow 3.4 imports what NumPy and itself have deprecated
    from phi.field import CenteredGrid, Field, StaggeredGrid, resample
    from phi.geom import Box, Sphere
    from phi.math import Tensor as PhiTensor
    from phi.math import batch, channel, dual, extrapolation, precision, spatial, stack, wrap
    from phi.physics import advect
    from phi.torch import TORCH

_GRID = spatial("x,y")
_VECTOR = channel(vector="x,y")


class Advection:
    """Advect smoke and velocity, let smoke in, and add its buoyancy to the velocity.

    Tensors are float64, have the axes [S, column, row], and hold the S plumes of one batch.
    PhiFlow's own defaults (backend, device, precision) are as before after every call.

    Args:
        plumes: plumes of one resolution.
        velocity_dt, smoke_dt: times by which velocity and smoke are advected, in time units.
        device: device on which to work.

    Raises:
        ValueError: if PhiFlow cannot work on the device.
    """

    def __init__(
        self, plumes: Sequence[Plume], velocity_dt: float, smoke_dt: float, device: torch.device
    ) -> None:
        size = plumes[0].resolution
        self._velocity_dt, self._smoke_dt = velocity_dt, smoke_dt
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", 0)
        devices = {torch.device(known.ref): known for known in TORCH.list_devices()}
        if device not in devices:
            rule = f"one on which PhiFlow can work: {', '.join(map(str, devices))}"
            raise ValueError(wrong("device", rule, str(device), "cpu"))
        self._device = devices[device]
        self._grid = {"x": size, "y": size, "bounds": Box(x=size, y=size)}
        with self.settings():
            centre = wrap(self._tensor([p.inflow for p in plumes]), batch("plumes"), _VECTOR)
            radius = wrap(self._tensor([p.radius for p in plumes]), batch("plumes"))
            # 1 in the cells whose centre lies in the disc, else 0
            self._inflow = self._centered(Sphere(centre, radius=radius))
            left = self._tensor([p.buoyancy for p in plumes])[:, None]
            right = self._tensor([p.buoyancy_right or p.buoyancy for p in plumes])[:, None]
            if torch.equal(left, right):
                self._buoyancy = wrap(left[:, 0], batch("plumes"), _VECTOR)
            else:
                in_right = self._tensor(np.arange(size) + 0.5 > size / 2)[:, None]
                columns = left * (1 - in_right) + right * in_right
                self._buoyancy = wrap(columns, batch("plumes"), spatial("x"), _VECTOR)

    def step(self, smoke: Tensor, x_faces: Tensor, y_faces: Tensor) -> tuple[Tensor, ...]:
        """Smoke and velocity after advection, inflow and buoyancy, before the pressure acts.

        Smoke is ``[S, N, N]``; velocities at the faces are as in `pressure.divergence`.
        """
        with self.settings():
            velocity = self.velocity(x_faces, y_faces)
            field = self._centered(wrap(smoke, batch("plumes"), _GRID))
            carried = advect.mac_cormack(field, velocity, self._smoke_dt)
            carried = carried + self._inflow
            force = resample(carried * self._buoyancy, to=velocity)
            velocity = advect.semi_lagrangian(velocity, velocity, self._velocity_dt) + force
            fields = (carried, *velocity.vector)
            return tuple(field.values.native("plumes,x,y").contiguous() for field in fields)

    @contextmanager
    def settings(self) -> Iterator[None]:
        """Let PhiFlow work with PyTorch, in float64, on the device, in a `with` block."""
        before = TORCH.get_default_device()
        TORCH.set_default_device(self._device)
        try:
            with TORCH, precision(64), warnings.catch_warnings():
                # advect.mac_cormack of PhiFlow 3.4 calls what PhiFlow 3.4 has deprecated
                warnings.filterwarnings("ignore", ".*closest_values", DeprecationWarning)
                yield
        finally:
            TORCH.set_default_device(before)

    def velocity(self, x_faces: Tensor, y_faces: Tensor) -> Field:
        """PhiFlow's field of a velocity, 0 at and beyond the walls."""
        values = [wrap(faces, batch("plumes"), _GRID) for faces in (x_faces, y_faces)]
        return StaggeredGrid(stack(values, dual(vector="x,y")), 0, **self._grid)

    def _centered(self, values: PhiTensor | Sphere) -> Field:
        """PhiFlow's field of smoke, beyond a wall that of the cell at the wall."""
        return CenteredGrid(values, extrapolation.ZERO_GRADIENT, **self._grid)

    def _tensor(self, values: ArrayLike) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.float64), device=self._device.ref)
