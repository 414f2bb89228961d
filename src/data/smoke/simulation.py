"""Plumes simulated together, step by step."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from src.checks import check_choice
from src.data.smoke.advection import Advection, pair_means
from src.data.smoke.plumes import Plume
from src.data.smoke.pressure import divergence, project

LAYOUTS = ("centered", "staggered_cropped")

# Cells of the plumes that are simulated together: few enough for a processor's cache.
_CELLS = 8 * 64**2


def group_by_resolution(plumes: Sequence[Plume]) -> list[list[int]]:
    """Indices of the plumes that are simulated together, in the order of their first ones.

    Those of a group are of one resolution: 8 of 64 x 64 cells, or what comes nearest to it.
    """
    alike: dict[int, list[int]] = {}
    for index, plume in enumerate(plumes):
        alike.setdefault(plume.resolution, []).append(index)
    groups = []
    for resolution, indices in alike.items():
        size = max(1, _CELLS // resolution**2)
        groups += [indices[first : first + size] for first in range(0, len(indices), size)]
    return groups


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

    All work is done in float64, whatever ``dtype`` is, because rounding errors grow tenfold in some
    20 steps. Plumes that are turned copies of one another stay so bit for bit on 64 x 64 cells; see
    `advection` and `pressure.solve`.

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
        if len({plume.resolution for plume in plumes}) != 1:
            raise ValueError(
                "`plumes` must be at least one, and all of one resolution, to be simulated in one "
                f"batch; got {[plume.resolution for plume in plumes]}. Use group_by_resolution."
            )
        self.plumes = tuple(plumes)
        self.num_steps = 0
        self._dtype = np.dtype(dtype)
        self._device = torch.device(device)
        self._advection = Advection(self.plumes, velocity_dt, smoke_dt, self._device)
        size, options = plumes[0].resolution, {"dtype": torch.float64, "device": self._device}
        self._fields = {
            "smoke": torch.zeros(len(plumes), size, size, **options),
            "faces": torch.zeros(2, len(plumes), size - 1, size, **options),
        }

    def step(self) -> None:
        """Advance all plumes by one step."""
        smoke, faces = self._advection.step(**self._fields)
        self._fields = {"smoke": smoke, "faces": project(faces)}
        self.num_steps += 1

    def velocity(self, layout: str = "centered") -> np.ndarray:
        """The velocities ``[S, 2, row, column]``, component 0 along growing column index (x).

        ``centered``: means of the two opposite faces of each cell. ``staggered_cropped``: values at
        that face of each cell which has the smaller column index (component 0) or row index
        (component 1). This leaves out two walls, where the velocity is 0.
        """
        check_choice("layout", layout, LAYOUTS)
        faces = F.pad(self._fields["faces"], (0, 0, 1, 1))
        x, y = pair_means(faces, 2) if layout == "centered" else faces[:, :, :-1]
        frame = torch.stack([x.mT, y], 1)
        return np.ascontiguousarray(frame.cpu().numpy(), dtype=self._dtype)

    def density(self) -> np.ndarray:
        """The smoke ``[S, 1, row, column]``; each step lets 1 into the cells of the inflow."""
        return self._fields["smoke"].mT[:, None].cpu().numpy().astype(self._dtype)

    def max_divergence(self) -> float:
        """Largest divergence of the velocity at the faces of a cell, in 1 / time unit."""
        return divergence(self._fields["faces"]).abs().max().item()

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
