"""How far relaxed layers have moved from strict ones, read off their relaxed weights."""

import torch
from torch import Tensor, nn


def relaxation_penalty(network: nn.Module) -> Tensor:
    r"""Penalty that pulls relaxed layers towards strict ones: the sum of the layers' own.

    .. math:: \sum_{l, g, h} |w_l(g) - w_l(h)|
              \quad \text{or} \quad \mathrm{mean}_{y \sim z} |w(y) - w(z)|

    The first for layers relaxed over a group (`RelaxedLayer`), with w the relaxed weights
    [L, |G|] and g, h over all ordered pairs of elements; group biases [O, |G|] add a sum of the
    same kind. The second for weights that depend on the position (`RelaxedTranslationConv`, over
    the picture; `RelaxedSteerableConv`, over the kernel), with y and z neighbouring pixels along
    rows and columns. Neither is squared: the gradient does not fade as the weights come
    together, so a large enough factor makes them exactly equal. (An L1 distance, as a lasso's.)

    Args:
        network: any module; a module without relaxed layers has the penalty 0.

    Returns:
        A scalar, differentiable with respect to the relaxed weights.
    """
    total = next(network.parameters(), torch.empty(0)).new_zeros(())
    for layer in _relaxed_layers(network).values():
        total = total + layer.relaxation_penalty()
    return total


def relaxed_weight_error(module: nn.Module) -> Tensor:
    r"""Relaxed-weight equivariance error of a layer, or its mean over a network's layers.

    .. math:: \frac{\mathrm{mean}_{l, g, h} |w_l(g) - w_l(h)|}{\mathrm{mean}_{l, g} |w_l(g)|}

    with g, h over all |G|^2 ordered pairs of elements, or over pairs of neighbouring pixels where
    weights depend on the position. Zero exactly when the layer is strict; a layer whose weights
    are all zero is strict. With group biases see `RelaxedLayer.relaxed_weight_error`.

    Args:
        module: a relaxed layer, or a network with at least one.

    Returns:
        A scalar without unit: the error does not change when all weights are scaled.

    Raises:
        ValueError: if there is no relaxed layer.
    """
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
    return {name: m.relaxed_weight_error() for name, m in _relaxed_layers(network).items()}


def _relaxed_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Every module that says how relaxed it is, by name."""
    return {n: m for n, m in network.named_modules() if hasattr(m, "relaxed_weight_error")}
