"""How far relaxed layers have moved from strict ones, read off their relaxed weights."""

import torch
from torch import Tensor, nn

from src.models.components.gcnn import RelaxedLayer


def relaxation_penalty(network: nn.Module) -> Tensor:
    r"""Penalty that pulls relaxed layers towards strict ones.

    .. math:: \sum_{\text{layers}} \sum_{l, g, h} |w_l(g) - w_l(h)|

    with w the relaxed weights [L, |G|] and g, h over all ordered pairs of elements. It is not
    squared: its gradient does not fade as the weights come together, so a large enough factor
    makes them exactly equal. (An L1 distance, as a lasso's.)

    Args:
        network: any module; a module without relaxed layers has the penalty 0.

    Returns:
        A scalar, differentiable with respect to the relaxed weights.
    """
    total = next(network.parameters(), torch.empty(0)).new_zeros(())
    for layer in _relaxed_layers(network).values():
        total = total + _pairwise_differences(layer.relaxed_weights).sum()
    return total


def relaxed_weight_error(module: nn.Module) -> Tensor:
    r"""Relaxed-weight equivariance error of a layer, or its mean over a network's layers.

    .. math:: \frac{\mathrm{mean}_{l, g, h} |w_l(g) - w_l(h)|}{\mathrm{mean}_{l, g} |w_l(g)|}

    with g, h over all |G|^2 ordered pairs of elements. Zero exactly when the layer is strict;
    a layer whose weights are all zero is strict.

    Args:
        module: a relaxed layer, or a network with at least one.

    Returns:
        A scalar without unit: the error does not change when all weights are scaled.

    Raises:
        ValueError: if there is no relaxed layer.
    """
    if isinstance(module, RelaxedLayer):
        weights = module.relaxed_weights
        scale = weights.abs().mean().clamp_min(torch.finfo(weights.dtype).tiny)
        return _pairwise_differences(weights).mean() / scale
    errors = relaxed_weight_errors(module)
    if not errors:
        raise ValueError(
            "`relaxed_weight_error` needs a relaxed layer (`RelaxedLiftingConv` or "
            f"`RelaxedGroupConv`, ...) or a network with one; got {type(module).__name__} without "
            "any. Use a relaxed network, or `relaxed_weight_errors`, which is empty for others."
        )
    return torch.stack(list(errors.values())).mean()


def relaxed_weight_errors(network: nn.Module) -> dict[str, Tensor]:
    """`relaxed_weight_error` of each relaxed layer by its name in the network, in order.

    Empty for a network without relaxed layers.
    """
    return {name: relaxed_weight_error(layer) for name, layer in _relaxed_layers(network).items()}


def _relaxed_layers(network: nn.Module) -> dict[str, RelaxedLayer]:
    return {n: m for n, m in network.named_modules() if isinstance(m, RelaxedLayer)}


def _pairwise_differences(weights: Tensor) -> Tensor:
    """[L, |G|] -> [L, |G|, |G|]: |w_l(g) - w_l(h)|."""
    return (weights[:, :, None] - weights[:, None, :]).abs()
