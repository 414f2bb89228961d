"""How large gradients and updates are, over all parameters together."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm


@torch.no_grad()
def grad_norm(parameters: Iterable[Tensor]) -> Tensor:
    r"""Euclidean norm of all gradients as one vector.

    .. math:: \sqrt{\sum_p \|\nabla_p L\|^2}

    Args:
        parameters: tensors; those without a gradient are left out.

    Returns:
        A scalar on the gradients' device; 0 when no parameter has a gradient.
    """
    return get_total_norm([p.grad for p in parameters if p.grad is not None])


@torch.no_grad()
def update_ratio(before: Iterable[Tensor], after: Iterable[Tensor]) -> Tensor:
    r"""Length of an update relative to the weights it was applied to.

    .. math:: \frac{\|w_\text{after} - w_\text{before}\|}{\|w_\text{before}\|}

    with w all tensors as one vector. A change away from weights that are all zero is infinite;
    no change is 0.

    Args:
        before: the tensors before the update (copies).
        after: the same tensors after it, in the same order.

    Returns:
        A scalar on the tensors' device.

    Raises:
        ValueError: if the two do not hold tensors of the same shapes.
    """
    before, after = list(before), list(after)
    shapes = [[tuple(t.shape) for t in tensors] for tensors in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "`before` and `after` must hold the same tensors in the same order; got the shapes "
            f"{shapes[0]} and {shapes[1]}. Copy the parameters that will be updated."
        )
    change = get_total_norm([new - old for new, old in zip(after, before)])
    return (change / get_total_norm(before)).masked_fill(change == 0, 0.0)
