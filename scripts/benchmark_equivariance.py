"""Equivariance error of new layers at one step of the group, by how their kernels are turned.

Two layers (lifting, ELU, group convolution) see random images, blurred and faded out towards a
disc's edge. The error is the mean over images of |f(g x) - g f(x)| / |g f(x)| inside the disc, for
g one step of the group; images turn by bicubic interpolation, whose own error is part of it.

python scripts/benchmark_equivariance.py --seeds 5 --output equivariance.json
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402
from tqdm import tqdm  # noqa: E402

from scripts.benchmarks.tables import Table, report  # noqa: E402
from src.models.components.e2cnn import E2Conv  # noqa: E402
from src.models.components.gcnn import GroupConv, LiftingConv  # noqa: E402
from src.models.components.gcnn.actions import (  # noqa: E402
    transform_feature_map,
    transform_image,
)
from src.models.components.gcnn.harmonics import degrees_of_freedom  # noqa: E402
from src.models.components.gcnn.kernels import INTERPOLATIONS  # noqa: E402

CASES = [("c8", 3), ("c8", 5), ("c8", 7), ("c16", 7)]
SIZE = 41  # pixels, an odd number: the centre is a pixel
BLUR = 2.0  # pixels, standard deviation
FADE_RADIUS, DISC_RADIUS = 14, 13  # pixels
NUM_IMAGES, CHANNELS = 8, 8
STEP = 1  # the element next to the identity
NOTE = (
    f"{NUM_IMAGES} images of {SIZE}x{SIZE} pixels per seed, {CHANNELS} channels; mean over seeds "
    "of new weights and images. Freedom: numbers that a kernel of k^2 entries keeps (e2cnn: from "
    "a scalar to a regular field); with the other interpolations it keeps all k^2."
)

Network = Callable[[Tensor], Tensor]


def random_images(seed: int) -> Tensor:
    """Blurred noise inside a disc, [NUM_IMAGES, 1, SIZE, SIZE], float64."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(NUM_IMAGES, 1, SIZE, SIZE, generator=generator, dtype=torch.float64)
    positions = torch.arange(-8, 9, dtype=torch.float64)
    weights = torch.softmax(-(positions**2) / (2 * BLUR**2), 0)
    blurred = F.conv2d(noise, weights.view(1, 1, -1, 1), padding=(8, 0))
    blurred = F.conv2d(blurred, weights.view(1, 1, 1, -1), padding=(0, 8))
    return blurred * torch.sigmoid(FADE_RADIUS - _radius())


def equivariance_error(network: Network, images: Tensor, group: str) -> float:
    """Mean over images of |f(g x) - g f(x)| / |g f(x)|, inside the disc."""
    disc = _radius() < DISC_RADIUS
    with torch.no_grad():
        first = network(transform_image(images, group, STEP, "bicubic"))
        then = transform_feature_map(network(images), group, STEP, "bicubic")
    difference = ((first - then) * disc).flatten(1).norm(dim=1)
    return (difference / (then * disc).flatten(1).norm(dim=1)).mean().item()


def make_network(group: str, kernel_size: int, kernels: str, seed: int) -> Network:
    """Lifting, ELU, group convolution, in float64; ``kernels``: an interpolation or e2cnn."""
    torch.manual_seed(seed)
    first, second = (1, CHANNELS, kernel_size, group), (CHANNELS, CHANNELS, kernel_size, group)
    if kernels == "e2cnn":
        lift, conv = E2Conv(*first, "scalar"), E2Conv(*second)
    else:
        options = {"interpolation": kernels, "bias": False}
        lift, conv = LiftingConv(*first, **options), GroupConv(*second, **options)
    return torch.nn.Sequential(lift, torch.nn.ELU(), conv).double()


def measure(group: str, kernel_size: int, seeds: int) -> dict[str, Any]:
    """One row: the errors of all kinds of kernels, and the degrees of freedom left."""
    row: dict[str, Any] = {"group": group.upper(), "kernel": f"{kernel_size}x{kernel_size}"}
    for kernels in (*INTERPOLATIONS, "e2cnn"):
        errors = [
            equivariance_error(
                make_network(group, kernel_size, kernels, seed), random_images(seed), group
            )
            for seed in range(seeds)
        ]
        row[kernels] = sum(errors) / seeds
    row["harmonic / e2cnn"] = row["harmonic"] / row["e2cnn"]
    row["freedom, harmonic"] = degrees_of_freedom(kernel_size)
    row["freedom, e2cnn"] = E2Conv(1, 1, kernel_size, group, "scalar").weight.numel()
    return row


def _radius() -> Tensor:
    axis = torch.arange(SIZE, dtype=torch.float64) - SIZE // 2
    return (axis[:, None] ** 2 + axis**2).sqrt()


def main() -> None:
    """Print the table, and write it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="seeds to average over")
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    arguments = parser.parse_args()
    rows = [measure(*case, arguments.seeds) for case in tqdm(CASES, leave=False)]
    table = Table(f"Equivariance error at one step, mean of {arguments.seeds} seeds", rows, NOTE)
    report([table], arguments)


if __name__ == "__main__":
    main()
