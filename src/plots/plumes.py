"""Pictures of a set of simulated plumes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.data.samples import spread
from src.plots.fields import animate_fields, plot_fields
from src.plots.style import save_figure

SIMULATIONS = 4
TIMES = 6
PICTURES = 40  # of the animation


def plot_set(
    velocities: Any, titles: Sequence[str], path_without_suffix: str | Path
) -> tuple[Path, Path]:
    """Write a picture and an animation of a set, of at most four simulations.

    Simulations and frames are chosen at equal distances, the first and the last among them.
    Only they are read.

    Args:
        velocities: [S, T, 2, H, W], an array or what is read from a file like one (with
            ``shape`` and indices), in cells per time unit.
        titles: one per simulation.
        path_without_suffix: where the files go.

    Returns:
        The paths of the picture (.png; rows are simulations, columns times) and of the
        animation (.gif).

    Raises:
        ValueError: if the shape is another one, or there are not as many titles.
    """
    shape = tuple(velocities.shape)
    if len(shape) != 5 or shape[2] != 2 or 0 in shape:
        raise ValueError(
            "a set must be velocities [simulations, times, 2, rows, columns]; got the shape "
            f"{list(shape)}. Give the `velocities` of a stored set."
        )
    if len(titles) != shape[0]:
        raise ValueError(
            f"every simulation needs one title; got {len(titles)} titles for {shape[0]} "
            "simulations. Give one per plume of the set."
        )
    simulations, times = spread(shape[0], SIMULATIONS), spread(shape[1], PICTURES)
    fields = np.stack([np.asarray(velocities[s])[times] for s in simulations])
    names = [titles[s] for s in simulations]
    png, gif = (Path(f"{path_without_suffix}{suffix}") for suffix in (".png", ".gif"))
    columns = spread(len(times), TIMES)
    frames = [f"frame {time}" for time in times]
    shown = [frames[column] for column in columns]
    save_figure(plot_fields(fields[:, columns], names, shown, "Velocity"), png)
    animate_fields(fields[None], [""], names, [f"Velocity, {frame}" for frame in frames], gif)
    return png, gif
