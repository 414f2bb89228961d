"""Plumes simulated together, step by step."""

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F

from src.checks import check_choice
from src.data.smoke.plumes import Plume
from src.data.smoke.pressure import divergence, project
from src.errors import UserError

LAYOUTS = ("centered", "staggered_cropped")
DTYPES = ("float32", "float64")


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
        plumes: of one resolution.
        velocity_dt: time by which the velocity is advected in a step, in time units.
        smoke_dt: time by which the smoke is advected in a step, in time units.
        dtype: ``float32`` or ``float64``, of what `velocity` returns.
        device: ``cpu``, ``cuda`` or ``cuda:<index>``.

    Attributes:
        plumes: what is simulated.
        num_steps: how many steps were made.

    Raises:
        TypeError, ValueError: naming the argument, the rule, the value and a fix.
        UserError: if PhiFlow is not installed.

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
        _check_resolutions(plumes)
        _check_time("velocity_dt", velocity_dt)
        _check_time("smoke_dt", smoke_dt)
        check_choice("dtype", dtype, DTYPES)
        _check_phiflow()
        from src.data.smoke.advection import Advection

        self.plumes = tuple(plumes)
        self.num_steps = 0
        self._dtype = np.dtype(dtype)
        self._device = torch.device(device)
        self._advection = Advection(self.plumes, velocity_dt, smoke_dt, self._device)
        count, size = len(self.plumes), plumes[0].resolution
        shapes = {
            "smoke": (count, size, size),  # all [S, column, row]
            "x_faces": (count, size - 1, size),
            "y_faces": (count, size, size - 1),
        }
        self._fields = {
            name: torch.zeros(shape, dtype=torch.float64, device=self._device)
            for name, shape in shapes.items()
        }

    def step(self) -> None:
        """Advance all plumes by one step."""
        smoke, x_faces, y_faces = self._advection.step(**self._fields)
        x_faces, y_faces = project(x_faces, y_faces)
        self._fields = {"smoke": smoke, "x_faces": x_faces, "y_faces": y_faces}
        self.num_steps += 1

    def velocity(self, layout: str = "centered") -> np.ndarray:
        """The velocities ``[S, 2, row, column]``, component 0 along growing column index (x).

        Args:
            layout: ``centered``: means of the two opposite faces of each cell.
                ``staggered_cropped``: the values at that face of each cell which has the smaller
                column index (component 0) or row index (component 1). This leaves out two walls,
                where the velocity is 0.

        Raises:
            TypeError, ValueError: if there is no such layout.
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
        """Go on from the `state` of a simulation of the same plumes.

        Raises:
            ValueError: if the state is that of other boxes, or of another number of them.
        """
        for name, field in self._fields.items():
            got, expected = list(state[name].shape), list(field.shape)
            if got != expected:
                raise ValueError(
                    f"`{name}` of a state must have the shape {expected} of these plumes; got "
                    f"{got}. Restore it to a simulation of the plumes that it was taken from."
                )
        self._fields = {
            name: torch.tensor(state[name], dtype=torch.float64, device=self._device)
            for name in self._fields
        }
        self.num_steps = int(state["num_steps"])


def _check_phiflow() -> None:
    if find_spec("phi") is None:
        raise UserError(
            "Plumes are simulated with PhiFlow, which is not installed. Run "
            "`pip install -e '.[smoke]'`."
        )


def _check_resolutions(plumes: Sequence[Plume]) -> None:
    resolutions = sorted({plume.resolution for plume in plumes})
    if len(resolutions) != 1:
        raise ValueError(
            "`plumes` must be at least one, and all of one resolution, to be simulated in one "
            f"batch; got the resolutions {resolutions}. Use group_by_resolution."
        )


def _check_time(name: str, value: object) -> None:
    if not (isinstance(value, int | float) and 0 < value < math.inf):
        raise ValueError(f"`{name}` must be a positive time; got {value!r}. Use 1.")
