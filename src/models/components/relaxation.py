"""How far relaxed weights are from those of a strict layer: what all relaxed layers share."""

import torch
from torch import Tensor


def pairwise_differences(weights: Tensor) -> Tensor:
    """[..., |G|] -> [..., |G|, |G|]: |w(g) - w(h)| for all ordered pairs of elements."""
    return (weights[..., :, None] - weights[..., None, :]).abs()


def mean_neighbour_difference(maps: Tensor) -> Tensor:
    """Mean |w(y) - w(z)| over all maps [..., H, W] and pairs of pixels next to each other.

    Pairs along rows and along columns count alike; zero where there is a single pixel.
    """
    along_columns = (maps[..., 1:, :] - maps[..., :-1, :]).abs()
    along_rows = (maps[..., :, 1:] - maps[..., :, :-1]).abs()
    pairs = along_columns.numel() + along_rows.numel()
    return (along_columns.sum() + along_rows.sum()) / max(pairs, 1)


def relative_to_mean(difference: Tensor, weights: Tensor) -> Tensor:
    """``difference`` over the mean |w|; zero for a difference of zero, whatever the weights."""
    return difference / weights.abs().mean().clamp_min(torch.finfo(weights.dtype).tiny)
