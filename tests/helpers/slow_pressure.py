"""The pressure of a closed box the slow, obvious way: a dense matrix."""

import numpy as np


def slow_project(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make one velocity, u [X - 1, Y] and v [X, Y - 1] at inner faces, free of divergence."""
    columns, rows = v.shape[0], u.shape[1]
    gradient = np.zeros((u.size + v.size, columns * rows))
    faces = [((i, j), (i + 1, j)) for i in range(columns - 1) for j in range(rows)]
    faces += [((i, j), (i, j + 1)) for i in range(columns) for j in range(rows - 1)]
    for face, (low, high) in enumerate(faces):
        gradient[face, low[0] * rows + low[1]] = -1
        gradient[face, high[0] * rows + high[1]] = 1
    velocity = np.concatenate([u.ravel(), v.ravel()])
    pressure = np.linalg.lstsq(gradient, velocity, rcond=None)[0]
    free = velocity - gradient @ pressure
    return free[: u.size].reshape(u.shape), free[u.size :].reshape(v.shape)
