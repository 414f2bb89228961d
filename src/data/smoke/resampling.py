"""From the grid of a simulation to that of the stored frames."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from src.checks import check_integer
from src.data.smoke.plumes import Plume


def stored_frame(velocity: np.ndarray, plumes: Sequence[Plume], resolution: int) -> np.ndarray:
    """Bring velocities to the stored resolution, in cells of the stored grid per time unit.

    A plume that is magnified by f was simulated on a grid f times as fine. Its velocities are
    averaged down bilinearly with antialiasing (a triangle f cells wide to each side, clipped at
    the walls), which commutes with quarter turns, and divided by f.

    Args:
        velocity: ``[S, 2, N, N]``, one simulation per plume.
        plumes: what was simulated.
        resolution: cells along each side of the result.

    Returns:
        ``[S, 2, resolution, resolution]``, in the dtype of ``velocity``.
    """
    if velocity.shape[-1] != resolution:
        size = (resolution, resolution)
        fine = torch.from_numpy(velocity)
        velocity = F.interpolate(fine, size, mode="bilinear", antialias=True).numpy()
    factors = np.array([plume.magnification for plume in plumes], velocity.dtype)
    return velocity / factors[:, None, None, None]


def average_blocks(velocities: torch.Tensor, factor: int) -> torch.Tensor:
    """Average velocities at cell centres over blocks of ``factor`` x ``factor`` cells.

    Commutes with quarter turns. The unit of the velocities stays the same: cells of the fine grid
    per time unit.

    Args:
        velocities: ``[S, T, 2, H, H]``.
        factor: must divide H.

    Returns:
        ``[S, T, 2, H / factor, H / factor]``.

    Raises:
        TypeError, ValueError: if ``factor`` does not divide H.
    """
    check_divides(factor, velocities.shape[-1])
    if factor == 1:
        return velocities
    coarse = F.avg_pool2d(velocities.flatten(0, 1), factor)
    return coarse.unflatten(0, velocities.shape[:2])


def check_divides(factor: int, resolution: int) -> None:
    """Raise unless blocks of ``factor`` x ``factor`` cells fill a frame.

    Raises:
        TypeError, ValueError: naming the rule, the value and a fix.
    """
    check_integer("coarsen", factor, minimum=1)
    if resolution % factor:
        raise ValueError(
            f"`coarsen` must divide the resolution of a frame, {resolution}; got {factor}. Use "
            "data.coarsen=2."
        )
