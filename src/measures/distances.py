"""Relative distances of samples, and means over all of them."""

import torch
from torch import Tensor


class RunningMean:
    """Mean over all values given, each with the same weight, in double precision.

    Values stay on their device until the mean is asked for, so that adding does not wait for it.
    """

    def __init__(self) -> None:
        self._values: list[Tensor] = []

    def add(self, values: Tensor) -> None:
        self._values.append(values.flatten())

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(v.numel() for v in self._values)

    def value(self) -> float:
        """The mean.

        Raises:
            ValueError: without any value.
        """
        if self.count == 0:
            raise ValueError(
                "the mean over samples needs at least one sample; got none. Pass a list of "
                "batches: a generator or an iterator gives its batches only once."
            )
        return torch.cat(self._values).cpu().double().mean().item()


def relative_distance(got: Tensor, expected: Tensor, reference: Tensor) -> Tensor:
    """||got - expected|| / ||reference|| of each sample, [B]; 0 where got equals expected."""
    distance, scale = _norm(got - expected), _norm(reference)
    return (distance / scale).masked_fill(distance == 0, 0.0)


def _norm(x: Tensor) -> Tensor:
    """Norm of each sample, [B], in single precision at least: half overflows at 65504."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.linalg.vector_norm(x.flatten(1), dim=1, dtype=dtype)
