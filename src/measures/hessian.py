"""Curvature of a network's data loss: its Hessian, or the generalised Gauss-Newton matrix."""

from collections.abc import Callable
from copy import deepcopy
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from src.checks import check_choice
from src.measures.context import preserved_rng, without_jit_warnings
from src.measures.krylov import Array, SymmetricOperator
from src.measures.objective import Objective

Kind = Literal["hessian", "gauss_newton"]


def hessian_operator(
    objective: Objective,
    kind: Kind = "hessian",
    dtype: torch.dtype | None = None,
    progress: Callable[[], object] | None = None,
) -> SymmetricOperator:
    r"""The Hessian H of a data loss, or its Gauss-Newton matrix G, for products with vectors.

    .. math:: H = \nabla^2_w L(w), \qquad
              G = \frac{1}{N} \sum_n J_n^\top\, \nabla^2_f \ell(f_w(x_n), y_n)\, J_n, \qquad
              J_n = \nabla_w f_w(x_n)

    with L of `Objective`: every sample counts the same, batch norm uses its running statistics,
    and there is neither penalty nor weight decay. w are all trainable parameters as one vector,
    in the order of ``objective.weights()``. G lacks the second derivatives of the network, and
    with a loss that is convex in f (cross-entropy, squared error) has no negative eigenvalue.

    The operator works on a copy of the network as it is now: the network does not change, and
    the operator does not change with it later on.

    Args:
        objective: L.
        kind: ``"hessian"`` (H) or ``"gauss_newton"`` (G).
        dtype: type of the copy and of the data, e.g. ``torch.float64``; by default as they are.
        progress: called after each product, to advance a progress bar.

    Returns:
        A SciPy operator [P, P] on float64 vectors; products are computed in ``dtype``.

    Raises:
        ImportError: without the package curvlinops.
        ValueError: an unknown kind; on multiplying, a product that is not finite.

    References: B. Pearlmutter, Fast Exact Multiplication by the Hessian, Neural Computation 1994;
    N. Schraudolph, Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent,
    Neural Computation 2002. Products are those of the library curvlinops.
    """
    check_choice("kind", kind, get_args(Kind))
    try:
        with without_jit_warnings():
            import curvlinops
    except ModuleNotFoundError as error:
        raise ImportError(
            "the Hessian needs the package curvlinops-for-pytorch, which is not installed. Run "
            '`pip install -e ".[curvature]"`.'
        ) from error
    operators = {
        "hessian": curvlinops.HessianLinearOperator,
        "gauss_newton": curvlinops.GGNLinearOperator,
    }
    with torch.inference_mode(False):
        network = _copy(objective.network, dtype)
        weights = [p for p in network.parameters() if p.requires_grad]
        criterion = _BatchMean(_copy(objective.criterion, dtype))
        data = [tuple(_converted(tensor, dtype) for tensor in batch) for batch in objective.data]
        matrix = operators[kind](network, criterion, weights, data, check_deterministic=False)
    on_arrays = matrix.to_scipy()

    def multiply(vector: Array) -> Array:
        with torch.inference_mode(False), preserved_rng(), without_jit_warnings():
            return on_arrays.matvec(vector)

    precision = max(torch.finfo(weight.dtype).eps for weight in weights)
    return SymmetricOperator(multiply, matrix.shape[0], precision=precision, progress=progress)


class _BatchMean(nn.Module):
    """A criterion, declared as the mean over its batch: curvlinops asks for ``reduction``."""

    reduction = "mean"

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return self.criterion(predictions, targets)


def _copy(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """A copy in eval mode, as it is written: copies forget `module.compile()`."""
    copy = deepcopy(module).eval()
    copy.zero_grad()
    return copy if dtype is None else copy.to(dtype)


def _converted(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if tensor.is_inference():
        tensor = tensor.clone()  # tensors made in inference mode cannot be differentiated
    return tensor.to(dtype) if tensor.is_floating_point() else tensor  # labels stay
