r"""Smoke and velocity carried along by the flow, smoke let in, and its buoyancy.

Velocities lie at the inner faces of the cells, ``[2, S, N - 1, N]`` for S plumes on N x N cells:
component 0 along x at the faces between two columns, ``[column, row]``, component 1 along y at
those between two rows, ``[row, column]``. So the first of the two axes runs along the component and
the second across it, and one piece of code serves both. Smoke is ``[S, N, N]``, ``[column, row]``.

Quarter turns and reflections of the box commute with all of it bit for bit: an interpolation starts
at the corner of a cell of the grid that lies nearer to where it looks from, and what such a turn
exchanges is added first.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from src.data.smoke.plumes import Plume


class Advection:
    """Advect smoke and velocity, let smoke in, and add its buoyancy to the velocity, in float64.

    Reference: Selle, Fedkiw, Kim, Liu and Rossignac, An unconditionally stable MacCormack method,
    Journal of Scientific Computing 35, 2008, for the smoke; PhiFlow 3.4 for what a step is.

    Args:
        plumes: plumes of one resolution, the S of a batch.
        velocity_dt, smoke_dt: times by which velocity and smoke are advected, in time units.
        device: device on which to work.
    """

    def __init__(
        self, plumes: Sequence[Plume], velocity_dt: float, smoke_dt: float, device: torch.device
    ) -> None:
        def tensor(values: list) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)

        self._velocity_dt, self._smoke_dt = velocity_dt, smoke_dt
        size = plumes[0].resolution
        centres = torch.arange(size, dtype=torch.float64, device=device) + 0.5
        x, y = tensor([plume.inflow for plume in plumes]).mT[..., None, None]
        radius = tensor([plume.radius for plume in plumes])[:, None, None]
        # 1 in the cells whose centre lies in the disc, else 0
        self._inflow = ((centres[:, None] - x) ** 2 + (centres - y) ** 2 <= radius**2).double()
        halves = tensor([[p.buoyancy, p.buoyancy_right or p.buoyancy] for p in plumes])
        right, up = halves[:, (centres > size / 2).long()].unbind(-1)  # [S, column]
        shape = (len(plumes), size, size)
        self._buoyancy = torch.stack([right[..., None].expand(shape), up[:, None].expand(shape)])

    def step(self, smoke: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Smoke and velocity after advection, inflow and buoyancy, before the pressure acts."""
        smoke = self.advect_smoke(smoke, faces).add_(self._inflow)
        force = torch.stack([smoke, smoke.mT]).mul_(self._buoyancy)
        return smoke, self.advect_velocity(faces).add_(pair_means(force, 2))

    def advect_smoke(self, smoke: Tensor, faces: Tensor) -> Tensor:
        r"""MacCormack's scheme for smoke s; beyond a wall, smoke is that of the cell at it.

        .. math:: s' = A s + \tfrac12 (s - A^{-} A s), \qquad (A^{\pm} s)(x) = s(x \mp v(x) dt)

        clipped to the range of the four cells between which A interpolates.
        """

        def look(field: Tensor, path: Tensor) -> tuple[list[Tensor], Tensor]:
            return corners(F.pad(field, (2, 2, 2, 2), mode="replicate"), path)

        x, y = pair_means(F.pad(faces, (0, 0, 1, 1)), 2).mul_(self._smoke_dt)
        path = torch.stack([x, y.mT])
        behind, fractions = look(smoke, -path)
        carried = interpolate(behind, fractions)
        error = smoke - interpolate(*look(carried, path))
        low, high = torch.stack(behind).aminmax(dim=0)
        return carried.add_(error.mul_(0.5)).clamp_(low, high)

    def advect_velocity(self, faces: Tensor) -> Tensor:
        """Semi-Lagrangian: v(x - v(x) dt), with velocity 0 at and beyond the walls."""
        across = pair_means(pair_means(F.pad(faces.flip(0).mT, (1, 1)), 2), 3)
        path = torch.stack([faces, across]).mul_(-self._velocity_dt)
        field = F.pad(faces, (2, 2, 2, 2))
        return interpolate(*corners(field.flatten(0, 1), path.flatten(1, 2))).view_as(faces)


def pair_means(values: Tensor, dim: int) -> Tensor:
    """Means of neighbours along one axis, which gets shorter by one."""
    size = values.shape[dim] - 1
    return (values.narrow(dim, 0, size) + values.narrow(dim, 1, size)).mul_(0.5)


def corners(field: Tensor, path: Tensor) -> tuple[list[Tensor], Tensor]:
    """Look up the four points of a grid round the ends of paths that start at its points.

    Args:
        field: values ``[B, H + 4, W + 4]``: a frame two points wide holds those beyond the grid.
        path: displacements along the two axes, ``[2, B, H, W]``, in grid spacings.

    Returns:
        the values ``[B, H, W]`` at the corner nearest to the start, at its neighbours in the
        direction of the path along the second axis and along the first one, and at the corner
        opposite; and the fractions ``[2, B, H, W]`` of a spacing from the first to the end.
    """
    (_, count, height, width), stride = path.shape, field.shape[-1]
    plane, rows, columns = (
        torch.arange(size, dtype=torch.int32, device=path.device) for size in (count, height, width)
    )
    whole = path.int()  # towards 0
    down, right = (path >= 0).int().mul_(2).sub_(1)  # 1 or -1
    row = (whole[0] + (rows[:, None] + 2)).clamp_(1, height + 2)
    column = (whole[1] + (columns + 2)).clamp_(1, width + 2)
    near = row.mul_(stride).add_(column).add_(plane[:, None, None] * field[0].numel())
    beside, down = near + right, down.mul_(stride)
    flat = field.reshape(-1)
    places = (near, beside, near + down, beside + down)
    values = [flat.index_select(0, place.view(-1)).view(place.shape) for place in places]
    return values, (path - whole).abs_()


def interpolate(values: Sequence[Tensor], fractions: Tensor) -> Tensor:
    """Interpolate bilinearly between what `corners` returns."""
    rest = 1 - fractions
    near, beside, below, opposite = values
    outer = (near * (rest[0] * rest[1])).add_(opposite * (fractions[0] * fractions[1]))
    inner = (beside * (rest[0] * fractions[1])).add_(below * (fractions[0] * rest[1]))
    return outer.add_(inner)
