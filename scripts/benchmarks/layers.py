"""Time and memory to build expanded kernels: our layers against turning every bank."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile

from scripts.benchmarks.tables import Table
from scripts.benchmarks.timing import Settings
from src.models.components.gcnn import GroupConv, LiftingConv, RelaxedGroupConv, RelaxedLiftingConv
from tests.helpers.reference_layers import REFERENCES

# (L, O, I, |G|, k)
SIZES = {
    "lifting": [(64, 16, 16, 16, 7), (8, 32, 32, 8, 5), (3, 32, 32, 4, 3)],
    "group": [(4, 16, 16, 16, 7), (8, 32, 32, 8, 5), (3, 32, 32, 4, 3), (1, 16, 16, 4, 3)],
}
STRICT = {"lifting": LiftingConv, "group": GroupConv}
RELAXED = {"lifting": RelaxedLiftingConv, "group": RelaxedGroupConv}
NOTE = (
    "L banks, O output and I input channels, |G| rotations, k x k. bank: all banks turned by one "
    "grid sampling, then einsum; sum: torchvision rotate, multiply and sum; ours: mix, then turn; "
    "strict: the layer without banks. Ratios of minima (10-90 % of the rounds' ratios)."
)
MEMORY_NOTE = (
    "Largest number of bytes allocated at a time by one build, what was there before not counted, "
    "results and gradients counted, over the bytes of parameters and expanded kernel together."
)

Size = tuple[int, int, int, int, int]
Build = Callable[[], Tensor]


def make_layer(kind: str, size: Size, strict: bool = False) -> nn.Module:
    """A layer of that size, in float32 on the CPU, without bias."""
    num_filter_banks, out_channels, in_channels, order, kernel_size = size
    options = {} if strict else {"num_filter_banks": num_filter_banks}
    make = (STRICT if strict else RELAXED)[kind]
    torch.manual_seed(0)
    sizes = (in_channels, out_channels, kernel_size, f"c{order}")
    return make(*sizes, bias=False, interpolation="bilinear", **options)


def make_builders(layer: nn.Module) -> dict[str, Build]:
    """Functions that build the layer's expanded kernel, ours and the references'."""
    device = layer.weight.device
    builders = {name: make(layer).to(device) for name, make in REFERENCES.items()}
    return {**builders, "ours": layer.expanded_kernel}


def forward_only(build: Build, parameters: list[Tensor]) -> Callable[[], object]:
    """Build without recording gradients."""
    return torch.no_grad()(build)


def forward_and_backward(build: Build, parameters: list[Tensor]) -> Callable[[], object]:
    """Build, and take the gradients of the parameters for a fixed gradient of the kernel."""
    cotangent = torch.ones_like(build()).contiguous()
    return lambda: torch.autograd.grad(build(), parameters, cotangent)


PASSES = {"forward": forward_only, "+ backward": forward_and_backward}


def benchmark(kind: str, settings: Settings) -> Table:
    """Time every size of ``kind``, ``lifting`` or ``group``."""
    rows = []
    for size, (name, make_pass) in product(SIZES[kind], PASSES.items()):
        layer = make_layer(kind, size).to(settings.device, settings.dtype)
        strict = make_layer(kind, size, strict=True).to(settings.device, settings.dtype)
        versions = {
            key: make_pass(settings.compiled(build), list(layer.parameters()))
            for key, build in make_builders(layer).items()
        }
        versions["strict"] = make_pass(settings.compiled(strict.expanded_kernel), [strict.weight])
        timings = settings.time(versions, f"{kind} {size} {name}")
        row = {"(L, O, I, \\|G\\|, k)": str(size), "pass": name}
        row |= {f"{other} / ours": timings.ratio(other, "ours") for other in ("bank", "sum")}
        rows.append(row | {f"{key}, ms": timings.minimum(key) * 1e3 for key in versions})
    return Table(f"Expanded kernel of the {kind} convolution", rows, NOTE)


def peak_memory(function: Callable[[], object], device: torch.device) -> int:
    """Largest number of bytes that PyTorch holds more than before while ``function`` runs.

    Counted from every allocation that PyTorch's allocator reports, so the same in every run.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(profile_memory=True) as profiler:
        function()
    events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
    held, peak = 0, 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def benchmark_memory(settings: Settings) -> Table:
    """Peak memory of the largest size of each kind, all versions."""
    rows = []
    for (kind, sizes), (name, make_pass) in product(SIZES.items(), PASSES.items()):
        layer = make_layer(kind, sizes[0]).to(settings.device, settings.dtype)
        parameters = list(layer.parameters())
        needed = sum(p.nbytes for p in parameters) + layer.expanded_kernel().nbytes
        size = f"{kind} {sizes[0]}"
        row = {"layer": size, "pass": name, "parameters + kernel, MB": needed / 1e6}
        for version, build in make_builders(layer).items():
            run = make_pass(build, parameters)
            run()
            row[version] = round(peak_memory(run, settings.device) / needed, 2)
        rows.append(row)
    return Table("Peak extra memory, relative to parameters + expanded kernel", rows, MEMORY_NOTE)
