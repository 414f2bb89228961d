"""How far plumes in the four directions are from turned copies of one another."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from src.checks import check_choice
from src.data.smoke.plumes import SIDES, Plume
from src.data.smoke.simulation import LAYOUTS
from src.models.components.gcnn.actions import transform_vector_field


def turned_plumes(plumes: Sequence[Plume]) -> list[list[int]] | None:
    """Groups of the indices of plumes of sides 0, 1, 2, 3, whose labels agree in all but the side.

    None: not every plume is in such a group, so that the data have no equivariance error.
    """
    groups: dict[tuple[float, ...], list[int]] = {}
    for index, plume in enumerate(plumes):
        groups.setdefault(plume.task[:-1], []).append(index)
    sides = list(range(len(SIDES)))
    ordered = [sorted(group, key=lambda i: plumes[i].side) for group in groups.values()]
    whole = all([plumes[i].side for i in group] == sides for group in ordered)
    return ordered if whole else None


def turn_back(velocity: Tensor, side: int, layout: str) -> Tensor:
    """Turn the velocity of a plume of one side as if it were the plume of side 0, up.

    Side ``s`` (up, left, down, right) is the turn of side 0 by the element -s of C4, so the
    element s takes it back. Cropped staggered components are turned exactly too: the faces that
    cropping left out are walls, where the velocity is 0, so they are put back before the turn,
    and the turned faces are cropped again. The velocity is ``[T, 2, H, H]``.
    """
    check_choice("layout", layout, LAYOUTS)
    if layout == "centered":
        return transform_vector_field(velocity, "c4", side)
    x_faces, y_faces = F.pad(velocity[:, 0], (0, 1)), F.pad(velocity[:, 1], (0, 0, 0, 1))
    for _ in range(side):
        x_faces, y_faces = torch.rot90(y_faces, 1, (-2, -1)), -torch.rot90(x_faces, 1, (-2, -1))
    return torch.stack([x_faces[..., :-1], y_faces[..., :-1, :]], 1)


def data_equivariance_error(velocities: Tensor, layout: str) -> float:
    r"""Mean over three sides of the mean absolute difference to the plume that rises, cells / time.

    .. math:: \frac13 \sum_{s=1}^{3} \mathrm{mean} \, |g_s v_s - v_0|

    with v_s the velocity of the plume of side s, g_s the quarter turns that take it back
    (`turn_back`), and the mean over frames, components and cells.

    Reference: Wang, Walters and Yu, Approximately equivariant networks for imperfectly symmetric
    dynamics, ICML 2022, section 5. The published figures are those of cropped staggered components
    and of frames 10 to 48 of the 50 in the published files. Velocities are ``[4, T, 2, H, H]``, of
    the sides 0 to 3 in one of the `LAYOUTS`.
    """
    up = velocities[0].double()
    errors = [
        (turn_back(velocities[side].double(), side, layout) - up).abs().mean()
        for side in range(1, len(SIDES))
    ]
    return torch.stack(errors).mean().item()
