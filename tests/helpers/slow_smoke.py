"""Plumes the slow, obvious way: PhiFlow alone, one plume at a time, its own pressure solve."""

import warnings

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from phi.field import CenteredGrid, StaggeredGrid, resample
    from phi.geom import Box
    from phi.math import Solve, channel, extrapolation, precision, spatial, tensor
    from phi.physics import advect, fluid
    from phiml.backend import NUMPY


def slow_simulation(plume, num_steps, velocity_dt, smoke_dt):
    """Velocities at all faces, walls too: components [2, N + 1, N + 1], rows before columns.

    Component 0 is at the faces x = 0, ..., N (its last row is padding), component 1 at the faces
    y = 0, ..., N (its last column is). NumPy, float64.
    """
    size = plume.resolution
    grid = {"x": size, "y": size, "bounds": Box(x=size, y=size)}
    centres = np.arange(size) + 0.5
    x, y = plume.inflow
    disc = (centres[:, None] - x) ** 2 + (centres - y) ** 2 <= plume.radius**2
    in_right = centres[:, None] > size / 2
    buoyancy = np.where(in_right, plume.buoyancy_right or plume.buoyancy, plume.buoyancy)
    with NUMPY, precision(64), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations, and a matrix that is singular indeed
        inflow = tensor(disc.astype(float), spatial("x,y"))
        force = tensor(buoyancy, spatial("x"), channel(vector="x,y"))
        smoke = CenteredGrid(0, extrapolation.ZERO_GRADIENT, **grid)
        velocity = StaggeredGrid(0, 0, **grid)
        for _ in range(num_steps):
            smoke = advect.mac_cormack(smoke, velocity, dt=smoke_dt) + inflow
            pushed = resample(smoke * force, to=velocity)
            velocity = advect.semi_lagrangian(velocity, velocity, dt=velocity_dt) + pushed
            velocity, _ = fluid.make_incompressible(velocity, (), Solve("scipy-direct"))
        return velocity.staggered_tensor().numpy("vector,y,x")
