"""Peak memory while an expanded kernel is built."""

from collections.abc import Callable

import torch
from torch.autograd.profiler import profile

from scripts.benchmarks.layers import PASSES, make_builders, make_layer
from scripts.benchmarks.settings import Settings
from scripts.benchmarks.tables import Table

CASES = [("lifting", (64, 16, 16, 16, 7)), ("group", (4, 16, 16, 16, 7))]
NOTE = (
    "Largest number of bytes allocated at a time by one build, what was there before not counted, "
    "results and gradients counted, over the bytes of parameters and expanded kernel together."
)


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


def benchmark(settings: Settings) -> Table:
    """The largest size of each kind, all versions."""
    rows = []
    for kind, size in CASES:
        layer = make_layer(kind, size).to(settings.device, settings.dtype)
        parameters = list(layer.parameters())
        needed = sum(p.nbytes for p in parameters) + layer.expanded_kernel().nbytes
        for name, make_pass in PASSES.items():
            row = {"layer": f"{kind} {size}", "pass": name, "parameters + kernel, MB": needed / 1e6}
            for version, build in make_builders(layer).items():
                run = make_pass(build, parameters)
                run()
                row[version] = round(peak_memory(run, settings.device) / needed, 2)
            rows.append(row)
    return Table("Peak extra memory, relative to parameters + expanded kernel", rows, NOTE)
