"""Plumes the slow way: PhiFlow alone, with its own pressure solve."""

import warnings
from contextlib import contextmanager

import numpy as np
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PhiFlow 3.4 imports what NumPy and itself have deprecated
    from phi.field import CenteredGrid, StaggeredGrid, resample
    from phi.geom import Box
    from phi.math import Solve, batch, channel, dual, extrapolation, precision, spatial, stack, wrap
    from phi.physics import advect, fluid
    from phi.torch import TORCH

AXES = (batch("plumes"), spatial("x,y"))


class PhiFlowPlumes:
    """Plumes of one resolution in PhiFlow's fields; in float64, on the CPU.

    `smoke` and `velocity` are PhiFlow's.
    """

    def __init__(self, plumes, velocity_dt, smoke_dt):
        size = plumes[0].resolution
        self.velocity_dt, self.smoke_dt = velocity_dt, smoke_dt
        self.grid = {"x": size, "y": size, "bounds": Box(x=size, y=size)}
        centres = np.arange(size) + 0.5
        discs, pushes = [], []
        for plume in plumes:
            x, y = plume.inflow
            discs.append((centres[:, None] - x) ** 2 + (centres - y) ** 2 <= plume.radius**2)
            in_right = centres[:, None] > size / 2
            right = plume.buoyancy_right or plume.buoyancy
            pushes.append(np.where(in_right, right, plume.buoyancy))
        with self.settings():
            self.inflow = self.wrap(discs, *AXES)
            self.buoyancy = self.wrap(pushes, *AXES[:1], spatial("x"), channel(vector="x,y"))
        count = len(plumes)
        self.set_fields(np.zeros((count, size, size)), np.zeros((2, count, size - 1, size)))

    @contextmanager
    def settings(self):
        """Let PhiFlow work with PyTorch in float64."""
        with TORCH, precision(64), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations, and a matrix that is singular indeed
            yield

    def wrap(self, values, *axes):
        """PhiFlow's tensor of an array."""
        return wrap(torch.from_numpy(np.array(values, np.float64)), *axes)

    def set_fields(self, smoke: np.ndarray, faces: np.ndarray) -> None:
        """Take smoke and velocity from arrays laid out as in `src.data.smoke.advection`."""
        with self.settings():
            smoke = self.wrap(smoke, *AXES)
            self.smoke = CenteredGrid(smoke, extrapolation.ZERO_GRADIENT, **self.grid)
            values = [self.wrap(part, *AXES) for part in (faces[0], faces[1].swapaxes(1, 2))]
            self.velocity = StaggeredGrid(stack(values, dual(vector="x,y")), 0, **self.grid)

    def fields(self) -> tuple[np.ndarray, np.ndarray]:
        """Smoke and velocity as `set_fields` takes them."""
        parts = (self.smoke, *self.velocity.vector)
        with self.settings():
            smoke, x, y = (part.values.numpy("plumes,x,y") for part in parts)
        return smoke, np.stack([x, y.swapaxes(1, 2)])

    def advected(self):
        """Smoke and velocity after advection, inflow and buoyancy."""
        with self.settings():
            smoke = advect.mac_cormack(self.smoke, self.velocity, dt=self.smoke_dt) + self.inflow
            pushed = resample(smoke * self.buoyancy, to=self.velocity)
            carried = advect.semi_lagrangian(self.velocity, self.velocity, dt=self.velocity_dt)
            return smoke, carried + pushed

    def projected(self, velocity, solver="scipy-direct"):
        """The velocity without divergence, by a solver of `phi.math.Solve`."""
        with self.settings():
            tolerances = () if solver == "scipy-direct" else (1e-5, 1e-5)
            solve = Solve(solver, *tolerances)
            return fluid.make_incompressible(velocity, (), solve)[0]

    def step(self) -> None:
        """Advance all plumes by one step."""
        self.smoke, velocity = self.advected()
        self.velocity = self.projected(velocity)
