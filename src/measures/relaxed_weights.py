"""How far relaxed layers have moved from strict ones, read off their relaxed weights."""

import torch
from torch import Tensor, nn

from src.models.components.gcnn.relaxation import relaxed_layers


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
            f"`relaxed_weight_error` needs a relaxed layer; got {type(module).__name__} without "
            "any. Use `RelaxedGroupConv`, for example, or a relaxed network, such as model=rgcnn."
        )
    return torch.stack(list(errors.values())).mean()


def relaxed_weight_errors(network: nn.Module) -> dict[str, Tensor]:
    """`relaxed_weight_error` of each relaxed layer by its name in the network; maybe empty."""
    return {name: m.relaxed_weight_error() for name, m in relaxed_layers(network).items()}
