"""Infinitesimal rotations and translations of images, velocity fields and feature maps."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from src.checks import check_choice
from src.measures.actions import check_shape
from src.models.components.gcnn.groups import Group, make_group

Transformation = Literal["rotation", "translation_x", "translation_y"]

SMALLEST_GRID = 3  # a pixel with both neighbours
VECTOR_FIBRES = {"vector": 2, "vector+scalar": 3}  # numbers at a pixel


def rotate_plane(x: Tensor) -> Tensor:
    r"""Turn pictures at unit speed about their centre, counter-clockwise as displayed.

    .. math:: \frac{d}{dt} x(R_t^{-1} p) \Big|_{t=0}
              = -p_{row}\, \partial_{column} x + p_{column}\, \partial_{row} x

    with p measured in pixels from the centre. Derivatives are central differences with zeros
    outside: those, at the pixels, of cubic convolution interpolation (a = -1/2, Catmull-Rom).
    Bilinear interpolation has none there. Takes and returns [..., H, W]; per radian.

    Reference: R. Keys, Cubic Convolution Interpolation for Digital Image Processing, IEEE
    Transactions on Acoustics, Speech, and Signal Processing 29(6), 1981.
    """
    rows, columns = (
        torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2 for size in x.shape[-2:]
    )
    return columns * _central_difference(x, -2) - rows[:, None] * _central_difference(x, -1)


def rotate_vectors(v: Tensor, fibre: int = 2) -> Tensor:
    """Turn the vectors of a field [B, 2 C, H, W] in place, at unit speed: (v1, -v0).

    Component 0 points along increasing column index, component 1 along increasing row index. In a
    field [B, 3 C, H, W], with ``fibre`` 3, a scalar that stays as it is follows each vector.
    """
    along_columns, along_rows, *scalars = v.unflatten(1, (-1, fibre)).unbind(2)
    still = map(torch.zeros_like, scalars)
    return torch.stack([along_rows, -along_columns, *still], 2).flatten(1, 2)


def rotate_group_axis(x: Tensor, group: str | Group) -> Tensor:
    r"""Turn the elements of a group, but not the plane, at unit speed.

    A feature map's values at the N rotations of a group are samples of a function of the angle
    at 2 pi a / N, and in between its trigonometric interpolant, which is shifted:

    .. math:: \frac{d}{dt} x(\theta_a - t) \Big|_{t=0}
              = \frac{2}{N} \sum_b x(\theta_b) \sum_{k < N / 2} k \sin(k (\theta_a - \theta_b))

    The highest frequency of an even N, N/2, is left out: a cosine through the samples is flat at
    each of them. So C2 does not turn, nor does C1. Rotations and mirrored rotations (elements
    a and a + N of dN) are shifted alike. Takes and returns [B, C, |G|, H, W]; per radian.
    """
    num_rotations = int((torch.linalg.det(make_group(group).matrices) > 0).sum())
    shift = -_spectral_derivative(num_rotations).to(x)
    angles = x.unflatten(2, (-1, num_rotations))
    return torch.einsum("ab,ncmbhw->ncmahw", shift, angles).flatten(2, 3)


class InfinitesimalAction:
    """How a transformation begins to move inputs, outputs and feature maps of a network.

    Rotations are by t radians, counter-clockwise as displayed, translations by t pixels of the
    input along increasing column (x) or row (y) index. A feature map with H' rows from H is
    taken to show the same picture, so it moves by H' / H as many of its pixels.

    Args:
        transformation: ``"rotation"``, ``"translation_x"`` or ``"translation_y"``.
        grid: (H, W) of the network's input.
        group: the group of regular feature maps, or several by their orders; only rotations of
            these maps need one.

    Raises:
        ValueError: an unknown transformation.
    """

    def __init__(
        self,
        transformation: str,
        grid: tuple[int, int],
        group: str | Group | Mapping[int, Group] | None = None,
    ) -> None:
        check_choice("transformation", transformation, get_args(Transformation))
        self.transformation = transformation
        self.grid = grid
        if isinstance(group, str | Group):
            group = {make_group(group).order: make_group(group)}
        self.groups = group or {}

    def __call__(self, kind: str, x: Tensor) -> Tensor:
        """d/dt at t = 0 of rho(t) x, for a stack of features of that kind, see `check_shape`."""
        if kind == "invariant":
            return torch.zeros_like(x)
        if self.transformation != "rotation":
            axis = -1 if self.transformation == "translation_x" else -2
            return -_central_difference(x, axis) * (x.shape[axis] / self.grid[axis])
        moved = rotate_plane(x)
        if kind in VECTOR_FIBRES:
            return moved + rotate_vectors(x, VECTOR_FIBRES[kind])
        if kind == "regular":
            return moved + rotate_group_axis(x, self.groups[x.shape[2]])
        return moved

    def check(self, kind: str, x: Tensor, what: str) -> None:
        """Raise a ValueError unless x has the shape and type that its transformation needs."""
        if not x.is_floating_point():
            raise ValueError(
                f"{what} must hold floating-point numbers, to have a derivative; got {x.dtype}. "
                "Convert it, e.g. with `.float()`."
            )
        turns = kind == "regular" and self.transformation == "rotation"
        if turns and not self.groups:
            raise ValueError(
                f"{what} turns with its group, which must be known; the network's layers have "
                "none. Pass `group`, e.g. group='c4'."
            )
        orders = sorted(self.groups, key=lambda order: order not in x.shape[2:3])
        check_shape(kind, x, what, orders[0] if turns else None)
        if kind != "invariant" and min(x.shape[-2:]) < SMALLEST_GRID:
            raise ValueError(
                f"{what} must have {SMALLEST_GRID} x {SMALLEST_GRID} pixels or more for central "
                f"differences; got {list(x.shape)}. Use larger images or less pooling."
            )


def _central_difference(x: Tensor, axis: int) -> Tensor:
    """(x[i + 1] - x[i - 1]) / 2 along the last axis (-1) or the one before, zeros outside."""
    size = x.shape[axis]
    padded = F.pad(x, (1, 1) if axis == -1 else (0, 0, 1, 1))
    return (padded.narrow(axis, 2, size) - padded.narrow(axis, 0, size)) / 2


@lru_cache(maxsize=64)
def _spectral_derivative(num_points: int) -> Tensor:
    """[N, N], float64: derivative at 2 pi a / N of the trigonometric interpolant of N samples."""
    angles = 2 * math.pi / num_points * torch.arange(num_points, dtype=torch.float64)
    difference = angles[:, None] - angles
    frequencies = torch.arange(1, (num_points + 1) // 2, dtype=torch.float64)[:, None, None]
    return -2 / num_points * (frequencies * (frequencies * difference).sin()).sum(0)
