"""A permutation of rows whose derivative is a permutation too."""

import torch
from torch import Tensor


def permute_rows(x: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Rows of ``x`` in another order: result[r] = x[source[r]].

    Same values and gradients as ``x[source]``. Told that ``source`` is a permutation, the
    backward pass copies rows instead of adding them up.

    Args:
        x: [R, n].
        source: [R], a permutation.
        target: [R], its inverse.

    Returns:
        [R, n].
    """
    needs_gradient = torch.is_grad_enabled() and x.requires_grad
    if torch.compiler.is_compiling() or not needs_gradient:
        return x.index_select(0, source)
    return _PermuteRows.apply(x, source, target)


class _PermuteRows(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        return x.index_select(0, source)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, source, target = inputs
        ctx.save_for_backward(source, target)
        ctx.save_for_forward(source, target)

    @staticmethod
    def backward(ctx, grad: Tensor):
        source, target = ctx.saved_tensors
        return _PermuteRows.apply(grad, target, source), None, None

    @staticmethod
    def jvp(ctx, tangent: Tensor, *_):
        source, target = ctx.saved_tensors
        return _PermuteRows.apply(tangent, source, target)
