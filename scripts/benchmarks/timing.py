"""Time versions of one computation in turn, and compare them by the ratio of minima."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

SHORTEST_SAMPLE = 2e-2  # seconds; faster functions are called several times per sample


@dataclass(frozen=True)
class Ratio:
    """How many times as long the one takes as the other.

    Attributes:
        value: ratio of the minima over all rounds.
        low, high: 10 % and 90 % quantiles of the ratios of the rounds.
    """

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
    versions: dict[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    label: str = "",
) -> Timings:
    """Call all versions one after the other, round after round: A B A B ...

    Neighbours on a shared machine slow all versions of a round alike, and the fastest round of
    many is the one that they disturbed least.

    Args:
        versions: functions without arguments, by name.
        rounds: number of rounds, after one to warm up.
        device: where the versions work; a GPU is waited for.
        label: what the progress bar says.
    """
    calls = {name: _calls_per_sample(function, device) for name, function in versions.items()}
    seconds: dict[str, list[float]] = {name: [] for name in versions}
    for _ in tqdm(range(rounds), desc=label, leave=False):
        for name, function in versions.items():
            seconds[name].append(_sample(function, calls[name], device))
    return Timings(seconds)


def _calls_per_sample(function: Callable[[], object], device: torch.device) -> int:
    for _ in range(3):
        duration = _sample(function, 1, device)
    return max(1, round(SHORTEST_SAMPLE / duration))


def _sample(function: Callable[[], object], calls: int, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        function()
    _wait(device)
    return (time.perf_counter() - start) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
