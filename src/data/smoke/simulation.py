"""Plumes simulated together, step by step."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from src.checks import check_choice
from src.data.smoke.plumes import Plume
from src.data.smoke.pressure import divergence, project

LAYOUTS = ("centered", "staggered_cropped")


def group_by_resolution(plumes: Sequence[Plume]) -> list[list[int]]:
    """Indices of the plumes that can be simulated together, in the order of their first ones."""
    groups: dict[int, list[int]] = {}
    for index, plume in enumerate(plumes):
        groups.setdefault(plume.resolution, []).append(index)
    return list(groups.values())


class Simulation:
    r"""Plumes in square boxes with closed walls, all in one batch, advanced step by step.

    A step takes smoke s and velocity v to

    .. math::
        s &\leftarrow \mathrm{MacCormack}(s, v, \Delta t_s) + \mathrm{inflow} \\
        v &\leftarrow \mathrm{SemiLagrangian}(v, v, \Delta t_v) + s \, b \\
        v &\leftarrow v - \nabla p, \qquad \nabla \cdot v = 0

    with the buoyancy b per step, not per time unit, and s b averaged to the faces between two
    cells. Beyond a wall smoke is that of the cell at it; at and beyond it the velocity is 0. Cells
    have size 1, the time unit is one advection of the smoke at ``smoke_dt`` 1, and velocities are
    in cells per time unit. At first there is neither smoke nor velocity.

    All work is done in float64, whatever ``dtype`` is. Rounding errors grow tenfold in some 20
    steps: four plumes that are turned copies of one another stay so to 5e-5 of the largest velocity
    after 60 steps in float32, but to 6e-14 in float64. It takes no longer, since most of a step's
    time is PhiFlow's own bookkeeping.

    Args:
        plumes: plumes of one resolution.
        velocity_dt, smoke_dt: times by which velocity and smoke are advected in a step.
        dtype: ``float32`` or ``float64``, of what `velocity` returns.
        device: ``cpu``, ``cuda`` or ``cuda:<index>``.

    Attributes:
        num_steps: number of steps that were made.

    Raises:
        ValueError: if the plumes are of several resolutions, or there are none.

    Reference: Wang, Walters and Yu, Approximately equivariant networks for imperfectly symmetric
    dynamics, ICML 2022, for the protocol; PhiFlow 3.4 for the two kinds of advection.
    """

    def __init__(
        self,
        plumes: Sequence[Plume],
        *,
        velocity_dt: float,
        smoke_dt: float = 1.0,
        dtype: str = "float32",
        device: str | torch.device = "cpu",
    ) -> None:
        from src.data.smoke.advection import Advection  # importing PhiFlow takes seconds

        if len(group_by_resolution(plumes)) != 1:
            raise ValueError(
                "`plumes` must be at least one, and all of one resolution, to be simulated in one "
                f"batch; got {[plume.resolution for plume in plumes]}. Use group_by_resolution."
            )
        self.plumes = tuple(plumes)
        self.num_steps = 0
        self._dtype = np.dtype(dtype)
        self._device = torch.device(device)
        self._advection = Advection(self.plumes, velocity_dt, smoke_dt, self._device)
        smoke = torch.zeros(len(self.plumes), plumes[0].resolution, plumes[0].resolution)
        smoke = smoke.to(self._device, torch.float64)  # fields are [S, column, row]
        self._fields = {"smoke": smoke, "x_faces": smoke[:, 1:], "y_faces": smoke[..., 1:]}

    def step(self) -> None:
        """Advance all plumes by one step."""
        smoke, x_faces, y_faces = self._advection.step(**self._fields)
        x_faces, y_faces = project(x_faces, y_faces)
        self._fields = {"smoke": smoke, "x_faces": x_faces, "y_faces": y_faces}
        self.num_steps += 1

    def velocity(self, layout: str = "centered") -> np.ndarray:
        """The velocities ``[S, 2, row, column]``, component 0 along growing column index (x).

        ``centered``: means of the two opposite faces of each cell. ``staggered_cropped``: values at
        that face of each cell which has the smaller column index (component 0) or row index
        (component 1). This leaves out two walls, where the velocity is 0.
        """
        check_choice("layout", layout, LAYOUTS)
        x_faces = F.pad(self._fields["x_faces"], (0, 0, 1, 1))
        y_faces = F.pad(self._fields["y_faces"], (1, 1))
        x, y = x_faces[:, :-1], y_faces[..., :-1]
        if layout == "centered":
            x, y = (x + x_faces[:, 1:]) / 2, (y + y_faces[..., 1:]) / 2
        frame = torch.stack([x, y], 1).transpose(-2, -1)
        return np.ascontiguousarray(frame.cpu().numpy(), dtype=self._dtype)

    def max_divergence(self) -> float:
        """Largest divergence of the velocity at the faces of a cell, in 1 / time unit."""
        x_faces, y_faces = self._fields["x_faces"], self._fields["y_faces"]
        return divergence(x_faces, y_faces).abs().max().item()

    def state(self) -> dict[str, np.ndarray]:
        """All that `restore` needs, so that the next steps are the same bit for bit."""
        arrays = {name: field.cpu().numpy().copy() for name, field in self._fields.items()}
        return {**arrays, "num_steps": np.array(self.num_steps)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from the `state` of a simulation of the same plumes."""
        self._fields = {
            name: torch.tensor(state[name], dtype=torch.float64, device=self._device)
            for name in self._fields
        }
        self.num_steps = int(state["num_steps"])
