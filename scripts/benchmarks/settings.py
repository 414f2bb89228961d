"""What all parts of the benchmark are told."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from scripts.benchmarks.timing import Timings, time_in_turn


@dataclass(frozen=True)
class Settings:
    """Rounds, and where and in which precision to work.

    Attributes:
        rounds: number of rounds of every comparison.
        device: where.
        dtype: float32, float64 or bfloat16. Layers are built in it; networks keep float32
            parameters and work in bfloat16 by autocast.
        compile: whether our versions and the references are compiled.
    """

    rounds: int
    device: torch.device
    dtype: torch.dtype
    compile: bool

    @property
    def parameter_dtype(self) -> torch.dtype:
        """Of a network's parameters and input."""
        return torch.float32 if self.dtype is torch.bfloat16 else self.dtype

    def precision(self) -> AbstractContextManager:
        """Autocast, for networks in bfloat16."""
        if self.dtype is torch.bfloat16:
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def compiled(self, function: Callable) -> Callable:
        """The function, compiled if asked for."""
        return torch.compile(function, fullgraph=True) if self.compile else function

    def time(self, versions: dict[str, Callable[[], object]], label: str) -> Timings:
        """Time the versions in turn."""
        return time_in_turn(versions, self.rounds, self.device, label)
