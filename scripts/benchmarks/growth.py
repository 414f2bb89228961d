"""How time and memory of a training step grow: relaxed layers against plain convolutions."""

from typing import Any

import numpy as np
import torch
from torch import nn

from scripts.benchmarks.layers import peak_memory
from scripts.benchmarks.networks import make_step
from scripts.benchmarks.tables import Table
from scripts.benchmarks.timing import Settings, Timings
from src.models.components.classifiers import CNN, RelaxedGCNN
from src.models.components.gcnn.caching import channels_last

BASE = {"order": 8, "banks": 4, "width": 8, "image": 28, "batch": 8}
VALUES = {
    "order": (4, 8, 16),
    "banks": (1, 2, 4, 8, 16),
    "width": (4, 8, 16),
    "image": (14, 28, 56),
    "batch": (2, 8, 32),
}
SKELETON = {"num_layers": 4, "kernel_size": 5, "pool_after": ()}
NOTE = (
    "4 layers of 5x5 convolution, norm and activation, with Adam; where they do not vary, group "
    "order 8, 4 banks, 8 channels (width), side of the image 28, batch 8. Plain: nn.Conv2d with "
    "order x width maps. Powers: p of cost ~ value^p, least squares of logarithms. First, last: "
    "relaxed / plain at that value; time: ratio of minima (10-90 % of the rounds' ratios). Memory: "
    "most that a step allocates at a time, with gradients, without parameters and Adam's state."
)


def make_stacks(order: int, banks: int, width: int) -> dict[str, nn.Module]:
    """Relaxed and plain layers of the same expanded shape."""
    turned = {"group": f"c{order}", "num_filter_banks": banks, "hidden_channels": width}
    nets = {
        "relaxed": RelaxedGCNN(**SKELETON, **turned),
        "plain": CNN(**SKELETON, hidden_channels=order * width),
    }
    return {name: net.blocks for name, net in nets.items()}


def measure(
    settings: Settings, image: int, batch: int, **sizes: int
) -> tuple[Timings, dict[str, int]]:
    """Times of training steps, and bytes by name."""
    x = torch.randn(batch, 1, image, image).to(settings.device, settings.parameter_dtype)
    steps, memory = {}, {}
    for name, stack in make_stacks(**sizes).items():
        optimizer = torch.optim.Adam(stack.to(x).parameters(), lr=0.0)  # all steps are alike
        run = settings.compiled(stack)
        steps[name] = make_step(stack, run, channels_last(x), True, settings, optimizer)
        steps[name]()
        optimizer.zero_grad()
        memory[name] = peak_memory(steps[name], settings.device)
    return settings.time(steps, f"growth {sizes}"), memory


def benchmark(
    settings: Settings, base: dict[str, int] = BASE, values: dict[str, tuple[int, ...]] = VALUES
) -> Table:
    """One row per dimension that varies."""
    rows = []
    for dimension, sizes in values.items():
        measured = [measure(settings, **{**base, dimension: size}) for size in sizes]
        row: dict[str, Any] = {"against": f"{dimension} {', '.join(map(str, sizes))}"}
        for name in ("relaxed", "plain"):
            costs = [(timings.minimum(name), memory[name]) for timings, memory in measured]
            time, memory = np.polyfit(np.log(sizes), np.log(costs), 1)[0].round(3).tolist()
            row |= {f"{name}, power in time": time, f"{name}, in memory": memory}
        for end, (timings, memory) in (("first", measured[0]), ("last", measured[-1])):
            row[f"time, {end}"] = timings.ratio("relaxed", "plain")
            row[f"memory, {end}"] = memory["relaxed"] / memory["plain"]
        rows.append(row)
    return Table("Growth of a training step", rows, NOTE)
