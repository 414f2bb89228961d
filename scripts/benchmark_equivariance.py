"""Equivariance error of new layers at one step of the group, by how their kernels are turned.

Two layers (lifting, ELU, group convolution) see random images, blurred and faded out towards a
disc's edge. The error is the mean over images of |f(g x) - g f(x)| / |g f(x)| inside the disc, for
g one step of the group; images turn by bicubic interpolation, whose own error is part of it.

python scripts/benchmark_equivariance.py --seeds 5 --output equivariance.json
"""

from typing import Any

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from tqdm import tqdm  # noqa: E402

from scripts.benchmarks.tables import Table, make_parser, parse, report  # noqa: E402
from src.models.components.e2cnn import E2Conv  # noqa: E402
from src.models.components.gcnn import GroupConv, LiftingConv  # noqa: E402
from src.models.components.gcnn.actions import transform_feature_map, transform_image  # noqa: E402
from src.models.components.gcnn.harmonics import degrees_of_freedom  # noqa: E402
from src.models.components.gcnn.kernels import INTERPOLATIONS  # noqa: E402

CASES = [("c8", 3), ("c8", 5), ("c8", 7), ("c16", 7)]
SIZE = 41  # pixels, an odd number: the centre is a pixel
BLUR = 2.0  # pixels, standard deviation
FADE_RADIUS, DISC_RADIUS = 14, 13  # pixels
AXIS = torch.arange(SIZE, dtype=torch.float64) - SIZE // 2
RADIUS = (AXIS[:, None] ** 2 + AXIS**2).sqrt()  # distance of each pixel from the centre
NUM_IMAGES, CHANNELS = 8, 8
STEP = 1  # the element next to the identity
NOTE = (
    f"{NUM_IMAGES} images of {SIZE}x{SIZE} pixels per seed, {CHANNELS} channels; mean over seeds "
    "of new weights and images. Freedom: numbers that a kernel of k^2 entries keeps (e2cnn: from "
    "a scalar to a regular field); with the other interpolations it keeps all k^2."
)


def random_images(seed: int) -> Tensor:
    """Blurred noise inside a disc, [NUM_IMAGES, 1, SIZE, SIZE], float64."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(NUM_IMAGES, 1, SIZE, SIZE, generator=generator, dtype=torch.float64)
    positions = torch.arange(-8, 9, dtype=torch.float64)
    weights = torch.softmax(-(positions**2) / (2 * BLUR**2), 0)
    blurred = F.conv2d(noise, weights.view(1, 1, -1, 1), padding=(8, 0))
    blurred = F.conv2d(blurred, weights.view(1, 1, 1, -1), padding=(0, 8))
    return blurred * torch.sigmoid(FADE_RADIUS - RADIUS)


def make_network(group: str, kernel_size: int, kernels: str, seed: int) -> nn.Module:
    """Lifting, ELU, group convolution, in float64; ``kernels``: an interpolation or e2cnn."""
    torch.manual_seed(seed)
    first, second = (1, CHANNELS, kernel_size, group), (CHANNELS, CHANNELS, kernel_size, group)
    if kernels == "e2cnn":
        lift, conv = E2Conv(*first, "scalar"), E2Conv(*second)
    else:
        options = {"interpolation": kernels, "bias": False}
        lift, conv = LiftingConv(*first, **options), GroupConv(*second, **options)
    return nn.Sequential(lift, nn.ELU(), conv).double()


@torch.no_grad()
def equivariance_error(network: nn.Module, images: Tensor, group: str) -> float:
    """Mean over images of |f(g x) - g f(x)| / |g f(x)|, inside the disc."""
    disc = RADIUS < DISC_RADIUS
    first = network(transform_image(images, group, STEP, "bicubic"))
    then = transform_feature_map(network(images), group, STEP, "bicubic")
    difference = ((first - then) * disc).flatten(1).norm(dim=1)
    return (difference / (then * disc).flatten(1).norm(dim=1)).mean().item()


def main() -> None:
    """Print the table, and write it as JSON where asked to."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="seeds to average over")
    given = parse(parser)
    rows = []
    for group, kernel_size in tqdm(CASES, leave=False):
        row: dict[str, Any] = {"group": group.upper(), "kernel": f"{kernel_size}x{kernel_size}"}
        for kernels in (*INTERPOLATIONS, "e2cnn"):
            errors = []
            for seed in range(given.seeds):
                network = make_network(group, kernel_size, kernels, seed)
                errors.append(equivariance_error(network, random_images(seed), group))
            row[kernels] = sum(errors) / given.seeds
        row["harmonic / e2cnn"] = row["harmonic"] / row["e2cnn"]
        row["freedom, harmonic"] = degrees_of_freedom(kernel_size)
        row["freedom, e2cnn"] = E2Conv(1, 1, kernel_size, group, "scalar").weight.numel()
        rows.append(row)
    title = f"Equivariance error at one step, mean of {given.seeds} seeds"
    report([Table(title, rows, NOTE)], given)


if __name__ == "__main__":
    main()
