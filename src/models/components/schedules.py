"""Numbers that change over training, as functions of its progress alone."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule(ABC):
    r"""A number that goes from one value to another over a part of training.

    .. math:: s + (e - s)\, f\!\left(\frac{p - b}{b' - b}\right), \qquad f(0) = 0,\ f(1) = 1

    for the progress p between b and b', the start s before and the end e after, both to the last
    bit. A schedule keeps no state: a resumed run has the values of an uninterrupted one.

    Args:
        start: s, the value up to ``begin``.
        end: e, the value from ``finish`` on.
        begin: b, the fraction of training at which the value starts to change.
        finish: b', the fraction of training from which on it stays.

    Raises:
        TypeError, ValueError: if an argument is no number, or the fractions are out of order.
    """

    start: float
    end: float
    begin: float = 0.0
    finish: float = 1.0

    def __post_init__(self) -> None:
        for name in ("start", "end", "begin", "finish"):
            _check_number(name, getattr(self, name))
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


class ConstantSchedule(Schedule):
    """One value throughout.

    Args:
        value: it.

    Raises:
        TypeError, ValueError: if it is no finite number.
    """

    def __init__(self, value: float) -> None:
        _check_number("value", value)
        super().__init__(value, value)

    @staticmethod
    def rise(part: float) -> float:
        return 0.0


def _check_number(name: str, value: object) -> None:
    message = f"`{name}` of a schedule must be a finite number; got {value!r}. Use for example 0.5."
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(message)
    if not math.isfinite(value):
        raise ValueError(message)
