"""How large gradients and updates are, over all parameters together and per kernel."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from src.models.components.gcnn.caching import ExpandedConv
from src.models.components.translation import RelaxedTranslationConv


@torch.no_grad()
def grad_norm(parameters: Iterable[Tensor]) -> Tensor:
    r"""Euclidean norm of all gradients as one vector.

    .. math:: \sqrt{\sum_p \|\nabla_p L\|^2}

    Parameters without a gradient are left out; 0 when none has one. A scalar on their device.
    """
    return get_total_norm([p.grad for p in parameters if p.grad is not None])


@torch.no_grad()
def update_ratio(before: Iterable[Tensor], after: Iterable[Tensor]) -> Tensor:
    r"""Length of an update relative to the weights it was applied to.

    .. math:: \frac{\|w_\text{after} - w_\text{before}\|}{\|w_\text{before}\|}

    with w all tensors as one vector, before (copies) and after in the same order; a scalar on
    their device. A change away from weights that are all zero is infinite; no change is 0.

    Raises:
        ValueError: if the two hold different numbers of tensors.
    """
    before = list(before)
    change = get_total_norm([new - old for new, old in zip(after, before, strict=True)])
    return (change / get_total_norm(before)).masked_fill(change == 0, 0.0)


@torch.no_grad()
def kernels(network: nn.Module) -> dict[str, Tensor]:
    """A copy of what each convolution convolves with, [O, I, k, k], by the layer's name.

    The expanded kernel of a layer on a group, the weight of an ordinary one (`nn.Conv2d`), the
    mean over positions of a `RelaxedTranslationConv`: what networks can be compared by, however
    many parameters make a kernel.
    """
    found = {}
    for name, layer in network.named_modules():
        if isinstance(layer, ExpandedConv):
            found[name] = layer.expanded_kernel()
        elif isinstance(layer, RelaxedTranslationConv):
            weights = layer.effective_weights().mean((-2, -1))
            found[name] = torch.einsum("l,loiyx->oiyx", weights, layer.weight)
        elif isinstance(layer, nn.Conv2d):
            found[name] = layer.weight.clone()
    return found
