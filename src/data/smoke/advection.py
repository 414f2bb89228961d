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

from src.data.smoke.plumes import Plume

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PhiFlow 3.4 imports what NumPy and itself have deprecated
    from phi.field import CenteredGrid, Field, StaggeredGrid, resample
    from phi.geom import Box, Sphere
    from phi.math import Tensor as PhiTensor
    from phi.math import batch, channel, dual, extrapolation, precision, spatial, stack, wrap
    from phi.physics import advect
    from phi.torch import TORCH
    from phiml.backend import ComputeDevice

_GRID = spatial("x,y")
_VECTOR = channel(vector="x,y")


class Advection:
    """Advect smoke and velocity, let smoke in, and add its buoyancy to the velocity.

    Tensors are float64, have the axes [S, column, row], and hold the S plumes of one batch.
    PhiFlow's own defaults (backend, device, precision) are as before after every call.

    Args:
        plumes: of one resolution.
        velocity_dt, smoke_dt: times by which velocity and smoke are advected, in time units.
        device: where to work.

    Raises:
        ValueError: if PhiFlow cannot work on the device.
    """

    def __init__(
        self, plumes: Sequence[Plume], velocity_dt: float, smoke_dt: float, device: torch.device
    ) -> None:
        size = plumes[0].resolution
        self._plumes = plumes
        self._velocity_dt, self._smoke_dt = velocity_dt, smoke_dt
        self._device = _compute_device(device)
        self._size = size
        self._grid = {"x": size, "y": size, "bounds": Box(x=size, y=size)}
        with self.settings():
            self._inflow = self._sampled_inflow()
            self._buoyancy = self._sampled_buoyancy()

    def step(self, smoke: Tensor, x_faces: Tensor, y_faces: Tensor) -> tuple[Tensor, ...]:
        """Smoke and velocity after advection, inflow and buoyancy, before the pressure acts.

        Args:
            smoke: ``[S, N, N]``.
            x_faces, y_faces: ``[S, N - 1, N]`` and ``[S, N, N - 1]``, as in `pressure.divergence`.

        Returns:
            smoke, x_faces, y_faces.
        """
        with self.settings():
            velocity = self.velocity(x_faces, y_faces)
            carried = advect.mac_cormack(self._centered(smoke), velocity, self._smoke_dt)
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

    def _centered(self, smoke: Tensor) -> Field:
        """PhiFlow's field of smoke, beyond a wall that of the cell at the wall."""
        values = wrap(smoke, batch("plumes"), _GRID)
        return CenteredGrid(values, extrapolation.ZERO_GRADIENT, **self._grid)

    def _sampled_inflow(self) -> Field:
        """1 in the cells whose centre lies in the disc, else 0."""
        centre = wrap(self._tensor([p.inflow for p in self._plumes]), batch("plumes"), _VECTOR)
        radius = wrap(self._tensor([p.radius for p in self._plumes]), batch("plumes"))
        disc = Sphere(centre, radius=radius)
        return CenteredGrid(disc, extrapolation.ZERO_GRADIENT, **self._grid)

    def _sampled_buoyancy(self) -> PhiTensor:
        """The acceleration in each column of cells, by one unit of smoke."""
        left = self._tensor([p.buoyancy for p in self._plumes])[:, None]
        right = self._tensor([p.buoyancy_right or p.buoyancy for p in self._plumes])[:, None]
        if torch.equal(left, right):
            return wrap(left[:, 0], batch("plumes"), _VECTOR)
        in_right = self._tensor(np.arange(self._size) + 0.5 > self._size / 2)[:, None]
        columns = left * (1 - in_right) + right * in_right
        return wrap(columns, batch("plumes"), spatial("x"), _VECTOR)

    def _tensor(self, values: ArrayLike) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.float64), device=self._device.ref)


def _compute_device(device: torch.device) -> ComputeDevice:
    """PhiFlow's object for a device."""
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", 0)
    devices = {torch.device(known.ref): known for known in TORCH.list_devices()}
    if device not in devices:
        names = ", ".join(str(name) for name in devices)
        raise ValueError(
            f"`device` must be one on which PhiFlow finds it can work: {names}; got '{device}'. "
            "Use cpu."
        )
    return devices[device]
