"""Numbers that change over training, as functions of its progress alone."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from src.checks import check_number


@dataclass(frozen=True)
class Schedule(ABC):
    r"""A number that goes from one value to another over a part of training.

    .. math:: s + (e - s)\, f\!\left(\frac{p - b}{b' - b}\right), \qquad f(0) = 0,\ f(1) = 1

    for the progress p between b and b', the start s before and the end e after, both to the last
    bit. A schedule keeps no state.

    Args:
        start: s, the value up to ``begin``.
        end: e, the value from ``finish`` on.
        begin, finish: b and b', fractions of training.
    """

    start: float
    end: float
    begin: float = 0.0
    finish: float = 1.0

    def __post_init__(self) -> None:
        for name in ("start", "end", "begin", "finish"):
            check_number(name, getattr(self, name), -math.inf)
        if not 0 <= self.begin < self.finish <= 1:
            raise ValueError(
                "`begin` and `finish` of a schedule must be fractions of training with "
                f"0 <= begin < finish <= 1; got begin={self.begin!r} and finish={self.finish!r}. "
                "Use for example begin=0.3 and finish=0.8."
            )

    def __call__(self, progress: float) -> float:
        """The value after a fraction of training: optimizer steps taken over all steps."""
        if progress <= self.begin:
            return float(self.start)
        if progress >= self.finish:
            return float(self.end)
        part = self.rise((progress - self.begin) / (self.finish - self.begin))
        return self.start + (self.end - self.start) * part

    def extremes(self) -> tuple[float, ...]:
        """Values that all others lie between."""
        return self.start, self.end

    @staticmethod
    @abstractmethod
    def rise(part: float) -> float:
        """f, which rises from 0 to 1."""


class LinearSchedule(Schedule):
    """`Schedule` at a constant rate: f(x) = x."""

    @staticmethod
    def rise(part: float) -> float:
        return part


class CosineSchedule(Schedule):
    """`Schedule` along half a cosine, slow at both ends: f(x) = (1 - cos(pi x)) / 2."""

    @staticmethod
    def rise(part: float) -> float:
        return (1 - math.cos(math.pi * part)) / 2


class ConstantSchedule(LinearSchedule):
    """One value throughout."""

    def __init__(self, value: float) -> None:
        check_number("value", value, -math.inf)
        super().__init__(value, value)


@dataclass(frozen=True)
class TriangleSchedule(LinearSchedule):
    r"""Rises at a constant rate to a peak half way from ``begin`` to ``finish``, and falls again.

    Layers whose theta follows it are strict, free, strict. They are validated, tested and stored
    as strict ones, see `RelaxedModule`.

    Args:
        start, end: values before and after.
        peak: value between them.
        begin, finish: fractions of training.

    Reference: S. Pertigkiozoglou, E. Chatzipantazis, S. Trivedi, K. Daniilidis, Improving
    Equivariant Model Training via Constraint Relaxation, NeurIPS 2024: from 0 to 1 over the first
    half of training, back to 0 over the second.
    """

    start: float = 0.0
    end: float = 0.0
    peak: float = 1.0

    def __post_init__(self) -> None:
        check_number("peak", self.peak, -math.inf)
        super().__post_init__()

    def __call__(self, progress: float) -> float:
        middle = (self.begin + self.finish) / 2
        if progress <= middle:
            return LinearSchedule(self.start, self.peak, self.begin, middle)(progress)
        return LinearSchedule(self.peak, self.end, middle, self.finish)(progress)

    def extremes(self) -> tuple[float, ...]:
        return self.start, self.peak, self.end
