"""Time to build expanded kernels: our layers against turning every bank."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from scripts.benchmarks.settings import Settings
from scripts.benchmarks.tables import Table
from src.models.components.gcnn import GroupConv, LiftingConv, RelaxedGroupConv, RelaxedLiftingConv
from tests.helpers.reference_layers import REFERENCES

# (L, O, I, |G|, k)
SIZES = {
    "lifting": [(64, 16, 16, 16, 7), (8, 32, 32, 8, 5), (3, 32, 32, 4, 3)],
    "group": [(4, 16, 16, 16, 7), (8, 32, 32, 8, 5), (3, 32, 32, 4, 3), (1, 16, 16, 4, 3)],
}
RELAXED = {"lifting": RelaxedLiftingConv, "group": RelaxedGroupConv}
STRICT = {"lifting": LiftingConv, "group": GroupConv}
NOTE = (
    "L banks, O output and I input channels, |G| rotations, k x k. bank: all banks turned by one "
    "grid sampling, then einsum; sum: torchvision rotate, multiply and sum; ours: mix, then turn; "
    "strict: the layer without banks. Ratios of minima (10-90 % of the rounds' ratios)."
)

Size = tuple[int, int, int, int, int]


def make_layer(kind: str, size: Size, strict: bool = False) -> nn.Module:
    """A layer of that size, in float32 on the CPU, without bias."""
    num_filter_banks, out_channels, in_channels, order, kernel_size = size
    options = {"bias": False, "interpolation": "bilinear"}
    if not strict:
        options["num_filter_banks"] = num_filter_banks
    classes = STRICT if strict else RELAXED
    torch.manual_seed(0)
    return classes[kind](in_channels, out_channels, kernel_size, f"c{order}", **options)


def make_builders(layer: nn.Module) -> dict[str, Callable[[], Tensor]]:
    """Functions that build the layer's expanded kernel, ours and the references'."""
    device = layer.weight.device
    builders = {name: make(layer).to(device) for name, make in REFERENCES.items()}
    return {**builders, "ours": layer.expanded_kernel}


def forward_only(build: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Build without recording gradients."""
    return torch.no_grad()(build)


def forward_and_backward(
    build: Callable[[], Tensor], parameters: list[Tensor]
) -> Callable[[], tuple[Tensor, ...]]:
    """Build, and take the gradients of the parameters for a fixed gradient of the kernel."""
    cotangent = torch.ones_like(build()).contiguous()
    return lambda: torch.autograd.grad(build(), parameters, cotangent)


PASSES = {"forward": lambda build, _: forward_only(build), "+ backward": forward_and_backward}


def benchmark(kind: str, settings: Settings) -> Table:
    """Every size of ``kind``, ``lifting`` or ``group``."""
    rows = [row for size in SIZES[kind] for row in _rows(kind, size, settings)]
    return Table(f"Expanded kernel of the {kind} convolution", rows, NOTE)


def _rows(kind: str, size: Size, settings: Settings) -> Iterator[dict[str, Any]]:
    layer = make_layer(kind, size).to(settings.device, settings.dtype)
    strict = make_layer(kind, size, strict=True).to(settings.device, settings.dtype)
    builders = make_builders(layer)
    parameters = {name: list(layer.parameters()) for name in builders}
    builders["strict"] = strict.expanded_kernel
    parameters["strict"] = [strict.weight]
    builders = {name: settings.compiled(build) for name, build in builders.items()}
    for name, make_pass in PASSES.items():
        versions = {key: make_pass(build, parameters[key]) for key, build in builders.items()}
        timings = settings.time(versions, f"{kind} {size} {name}")
        yield {
            "(L, O, I, \\|G\\|, k)": str(size),
            "pass": name,
            "bank / ours": timings.ratio("bank", "ours"),
            "sum / ours": timings.ratio("sum", "ours"),
            **{f"{key}, ms": timings.minimum(key) * 1e3 for key in versions},
        }
