"""Probe of the data loss around the path of a training."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from src.measures.landscape import (
    Plane,
    loss_at,
    loss_on_line,
    loss_on_plane,
    plane_of_path,
    random_plane,
)
from src.measures.objective import Objective
from src.measures.principal_components import principal_components
from src.measures.subject import Reading, Subject


def landscape(
    subject: Subject,
    *,
    resolution: int = 13,
    margin: float = 0.2,
    line_points: int = 21,
    random_planes: int = 1,
    random_radius: float = 0.5,
    statistics_batches: int | None = None,
    seed: int = 0,
) -> Reading:
    """`loss_on_line` and `loss_on_plane` of a training's path, and of random planes at its end.

    Statistics of batch norm are re-estimated at every point, on the first ``statistics_batches`` of
    the subject's (None: all). Values: ``path_explained_variance``, the part of the path's spread
    around its end that its plane holds; ``path_barrier``, by how much the loss on the straight line
    from start to end rises above the higher of its ends; ``random_plane_rise``, by how much the
    mean loss over the points of `random_plane` lies above that of the end. Details: planes, path
    and line, and why there is no plane of the path (two states) and no line either (one).
    """
    objective, points = subject.objective(), subject.path()
    weights = objective.weights()
    path = [{name: point.state[name] for name in weights} for point in points] or [weights]
    inputs = subject.statistics_inputs()[:statistics_batches]
    losses = partial(_losses, objective, inputs, subject)
    values: dict[str, float] = {}
    details: dict[str, Any] = {
        "epochs_trained": [point.epochs_trained for point in points],
        "steps": [point.step for point in points],
        "statistics_samples": sum(map(len, inputs)),
        "path_losses": [loss_at(objective, w, inputs) for w in path],
    }
    if len(path) < 2:
        details["reason"] = "no line and no plane of the path, of which only the end was kept"
    else:
        line = loss_on_line(objective, path[0], path[-1], line_points, inputs)
        values["path_barrier"] = (line.losses.max() - line.losses[[0, -1]].max()).item()
        details["line"] = {"positions": line.positions.tolist(), "losses": line.losses.tolist()}
        components = principal_components(path, weights)
        explained = components.explained_variance
        if explained[1] == 0:
            details["reason"] = f"no plane of the path, whose {len(path)} states lie on a line"
        else:
            values["path_explained_variance"] = explained.sum().item()
            details |= {
                "coordinates": components.coordinates.tolist(),
                "explained_variance": explained.tolist(),
                "distances_from_plane": components.distances.tolist(),
                "plane": losses(plane_of_path(path, components, resolution, margin)),
            }
    generator = torch.Generator().manual_seed(seed)
    planes = [
        losses(random_plane(objective.network, path[-1], resolution, random_radius, generator))
        for _ in range(random_planes)
    ]
    if planes:
        mean = torch.tensor([plane["losses"] for plane in planes], dtype=torch.float64).mean()
        values["random_plane_rise"] = mean.item() - details["path_losses"][-1]
    return Reading(values, details | {"random_planes": planes})


def _losses(
    objective: Objective, statistics: Sequence[Tensor], subject: Subject, plane: Plane
) -> dict[str, list]:
    """Positions and losses of a plane, with a progress bar."""
    progress = partial(subject.progress, desc="loss on a plane")
    losses = loss_on_plane(objective, plane, statistics, progress)
    return {"a": plane.a.tolist(), "b": plane.b.tolist(), "losses": losses.tolist()}
