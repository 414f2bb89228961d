"""Where the time of a step goes, by operation."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import nn
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import profile, record_function

from scripts.benchmarks.timing import wait_for
from src.models.components.activations import ACTIVATIONS
from src.models.components.gcnn.caching import ExpandedConv
from src.models.components.gcnn.norm import GroupBatchNorm
from src.models.components.gcnn.pooling import GroupPool, SpatialPool

LAYERS = {
    "norm": (GroupBatchNorm, nn.BatchNorm2d),
    "activation": tuple(ACTIVATIONS.values()),
    "pooling": (GroupPool, SpatialPool),
}
PARTS = ("convolution", *LAYERS, "expansion", "optimizer", "other")
NAMES = {part: part for part in PARTS} | {
    "aten::convolution": "convolution",
    "aten::convolution_backward": "convolution",
    "Optimizer": "optimizer",  # of names such as "Optimizer.step#Adam.step"
}
BACKWARD = "autograd::engine::evaluate_function"


def label_parts(network: nn.Module) -> None:
    """Make the layers of a network tell the profiler what part of a step they are."""
    methods = []
    for layer in network.modules():
        methods += [(layer, "forward", part) for part in LAYERS if isinstance(layer, LAYERS[part])]
        if isinstance(layer, ExpandedConv):
            methods.append((layer.kernel_cache, "get", "expansion"))
            methods.append((layer, "expanded_bias", "expansion"))
    for owner, name, part in methods:
        setattr(owner, name, record_function(part)(getattr(owner, name)))


def shares(step: Callable[[], object], rounds: int, device: torch.device) -> dict[str, float]:
    """Per cent of the fastest profiled step that each part takes, forward and backward.

    On the CPU of all its time, so that Python counts as "other"; elsewhere of that of kernels.
    """
    profiles = [_time_by_part(step, device) for _ in range(rounds + 1)][1:]
    fastest = min(profiles, key=Counter.total)
    return {f"{part}, %": 100 * fastest[part] / fastest.total() for part in PARTS}


def _time_by_part(step: Callable[[], object], device: torch.device) -> Counter[str]:
    """Microseconds of one step; what is under no label is "other"."""
    with profile() as profiler:
        with record_function("other"):
            step()
        wait_for(device)
    events = [e for e in profiler.events() if e.device_type == DeviceType.CPU]
    # the last operation to start under a sequence number made the node of the graph that has it
    forward = {
        e.sequence_nr: e
        for e in sorted(events, key=lambda e: e.time_range.start)
        if e.sequence_nr >= 0 and e.scope == 0 and not e.name.startswith(BACKWARD)
    }

    def part_of(event: FunctionEvent | None) -> str:
        if event is None:
            return "other"
        if (name := event.name.split(".")[0]) in NAMES:
            return NAMES[name]
        backward = event.name.startswith(BACKWARD)
        return part_of(forward.get(event.sequence_nr) if backward else event.cpu_parent)

    times: Counter[str] = Counter()
    for event in events:
        on_cpu = device.type == "cpu"
        times[part_of(event)] += (
            event.self_cpu_time_total if on_cpu else event.self_device_time_total
        )
    return times
