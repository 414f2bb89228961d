"""Time versions of one computation in turn, and compare them by the ratio of minima."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

SHORTEST_SAMPLE = 2e-2  # seconds; faster functions are called several times per sample


@dataclass(frozen=True)
class Ratio:
    """Ratio of the minima over all rounds; 10 % and 90 % quantiles of the ratios of the rounds."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        digits = 0 if self.value >= 20 else 1 if self.value >= 5 else 2
        value, low, high = (f"{x:.{digits}f}" for x in (self.value, self.low, self.high))
        return f"{value} ({low}-{high})"


@dataclass(frozen=True)
class Timings:
    """Seconds per call of each version, one figure per round."""

    seconds: dict[str, list[float]]

    def minimum(self, version: str) -> float:
        """Seconds per call in the fastest round."""
        return min(self.seconds[version])

    def ratio(self, version: str, other: str) -> Ratio:
        """Time of ``version`` / time of ``other``."""
        rounds = np.divide(self.seconds[version], self.seconds[other])
        low, high = np.quantile(rounds, [0.1, 0.9])
        return Ratio(self.minimum(version) / self.minimum(other), float(low), float(high))


def time_in_turn(
    versions: dict[str, Callable[[], object]], rounds: int, device: torch.device, label: str = ""
) -> Timings:
    """Call all versions one after the other, round after round: A B A B ...

    Neighbours on a shared machine slow all versions of a round alike, and the fastest round of
    many is the one that they disturbed least. Three calls of each warm up.
    """

    def sample(function: Callable[[], object], calls: int = 1) -> float:
        wait_for(device)
        start = time.perf_counter()
        for _ in range(calls):
            function()
        wait_for(device)
        return (time.perf_counter() - start) / calls

    calls = {}
    for name, function in versions.items():
        duration = [sample(function) for _ in range(3)][-1]
        calls[name] = max(1, round(SHORTEST_SAMPLE / duration))
    seconds: dict[str, list[float]] = {name: [] for name in versions}
    for _ in tqdm(range(rounds), desc=label, leave=False):
        for name, function in versions.items():
            seconds[name].append(sample(function, calls[name]))
    return Timings(seconds)


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@dataclass(frozen=True)
class Settings:
    """Rounds of every comparison, and where and in which precision to work."""

    rounds: int
    device: torch.device
    dtype: torch.dtype  # of layers; networks keep float32 and work in bfloat16 by autocast
    compile: bool  # our versions and the references

    @property
    def parameter_dtype(self) -> torch.dtype:
        """Precision of a network's parameters and input."""
        return torch.float32 if self.dtype is torch.bfloat16 else self.dtype

    def precision(self) -> AbstractContextManager:
        """Autocast, for networks in bfloat16."""
        half = self.dtype is torch.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

    def compiled(self, function: Callable) -> Callable:
        """The function, compiled if asked for."""
        return torch.compile(function, fullgraph=True) if self.compile else function

    def time(self, versions: dict[str, Callable[[], object]], label: str) -> Timings:
        """Time the versions in turn."""
        return time_in_turn(versions, self.rounds, self.device, label)
