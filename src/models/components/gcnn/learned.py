"""Theta as a parameter of each relaxed layer, and what keeps it honest."""

import torch
from torch import Tensor, nn

from src.models.components.gcnn.caching import ExpandedConv
from src.models.components.gcnn.relaxation import (
    Relaxable,
    check_relaxable,
    give_theta,
    relaxed_layers,
)


def learn_relaxations(network: nn.Module) -> None:
    """Make theta of every relaxed layer a parameter of its own, 1 at the start.

    ValueError if there is no relaxed layer.
    """
    check_relaxable(network)
    for layer in relaxed_layers(network).values():
        give_theta(layer, nn.Parameter(layer.weight.new_ones(())))


@torch.no_grad()
def renormalise(network: nn.Module) -> None:
    r"""Let no layer's free part be larger than its strict part; what exceeds goes into theta.

    .. math:: f_\text{eq} + \theta f_\text{free}, \qquad s = \max\left(1,
              \frac{\|f_\text{free}\|}{\|f_\text{eq}\|}\right), \qquad
              f_\text{free} \leftarrow f_\text{free} / s, \quad \theta \leftarrow s\, \theta

    with the norms of kernel and bias, of translation layers of the maps. The network stays the
    same function. Without this, w - w_bar can grow while theta shrinks, so that a theta near 0
    says nothing; with it what departs is at most |theta| times what is strict, in these norms.
    For layers whose theta is learned.
    """
    for layer in relaxed_layers(network).values():
        theta = layer.relaxation.clone()
        layer.relaxation.zero_()
        strict = _everything(layer)
        layer.relaxation.fill_(1)
        free = _everything(layer) - strict
        size = strict.norm()
        excess = torch.where(size > 0, free.norm() / size, 1.0).clamp_min(1)
        layer.relaxation.copy_(excess * theta)
        for parameter, mean in layer.free_parameters():
            smaller = mean + (parameter - mean) / excess
            parameter.copy_(torch.where(excess > 1, smaller, parameter))


def _everything(layer: Relaxable) -> Tensor:
    """All that a layer's theta moves, in one row: kernel and bias, or maps."""
    if not isinstance(layer, ExpandedConv):
        return layer.effective_weights().flatten()
    parts = layer.expanded_kernel(), layer.expanded_bias()
    return torch.cat([part.flatten() for part in parts if part is not None])
