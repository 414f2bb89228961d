"""Norms and relative distances of samples, and means over all of them."""

import torch
from torch import Tensor


def mean_over_samples(parts: list[Tensor]) -> float:
    """Mean over the values of all parts, each with the same weight, in double precision.

    Raises:
        ValueError: without any value.
    """
    if not any(part.numel() for part in parts):
        raise ValueError(
            "a mean over samples needs at least one sample; got none. Pass a list of batches: a "
            "generator or an iterator gives its batches only once."
        )
    return torch.cat(parts).cpu().double().mean().item()


def norms(x: Tensor) -> Tensor:
    """Norm of each sample, [B], in single precision at least: half overflows at 65504."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.linalg.vector_norm(x.unsqueeze(-1).flatten(1), dim=1, dtype=dtype)


def relative_distance(got: Tensor, expected: Tensor, reference: Tensor) -> Tensor:
    """||got - expected|| / ||reference|| of each sample, [B]; 0 where got equals expected."""
    distance = norms(got - expected)
    return (distance / norms(reference)).masked_fill(distance == 0, 0.0)
