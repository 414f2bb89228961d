"""Curvature of a network's data loss: its Hessian, or the generalised Gauss-Newton matrix."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd import grad
from torch.autograd.graph import saved_tensors_hooks

from src.checks import check_choice
from src.measures.context import full_precision, preserved_rng
from src.measures.krylov import Array, SymmetricOperator
from src.measures.objective import Objective

Kind = Literal["hessian", "gauss_newton"]
Batch = tuple[Tensor, Tensor]
Product = Callable[[Sequence[Tensor]], Sequence[Tensor]]

KEPT_BYTES = 2**31  # of intermediate results that are kept from product to product


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

    The weights stay the same from product to product, so the forward and the first backward pass
    are made once, and a product is one more backward pass. What it needs of them is kept for as
    many batches as fit into 2 GiB; of the others both passes are made again for each product.

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
        ValueError: an unknown kind; on multiplying, a product that is not finite.

    References: B. Pearlmutter, Fast Exact Multiplication by the Hessian, Neural Computation 1994;
    N. Schraudolph, Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent,
    Neural Computation 2002.
    """
    check_choice("kind", kind, get_args(Kind))
    with torch.inference_mode(False):
        network, criterion = (_copy(m, dtype) for m in (objective.network, objective.criterion))
        data = [tuple(_converted(tensor, dtype) for tensor in batch) for batch in objective.data]
    products = _Products(network, criterion, data, of_batch=_PRODUCTS[kind])
    precision = max(torch.finfo(weight.dtype).eps for weight in products.weights)
    size = sum(products.sizes)
    return SymmetricOperator(products.of_all, size, precision=precision, progress=progress)


class _Products:
    """Products of a matrix that is the mean over batches, which ``of_batch`` gives for each."""

    def __init__(
        self,
        network: nn.Module,
        criterion: nn.Module,
        data: list[Batch],
        of_batch: Callable[..., Product],
    ) -> None:
        self.weights = [p for p in network.parameters() if p.requires_grad]
        self.sizes = [weight.numel() for weight in self.weights]
        self.data = data
        self.kept: dict[int, Product] = {}
        self._make = lambda batch: of_batch(network, criterion, self.weights, *batch)

    def of_all(self, vector: Array) -> Array:
        """[P] -> [P], every sample counting the same."""
        parts = torch.tensor(vector).split(self.sizes)
        along = [part.view_as(w).to(w) for part, w in zip(parts, self.weights)]
        total, number = torch.zeros(sum(self.sizes)).to(self.weights[0]), 0
        with torch.inference_mode(False), torch.enable_grad(), preserved_rng(), full_precision():
            for index, batch in enumerate(self.data):
                product = self.kept.get(index) or self._make(batch)
                if number + len(batch[0]) <= self.most_kept:
                    self.kept[index] = product
                rows = torch.cat([row.flatten() for row in product(along)])
                total, number = total + len(batch[0]) * rows, number + len(batch[0])
        return (total / number).cpu().double().numpy()

    @cached_property
    def most_kept(self) -> float:
        """Number of samples whose intermediate results fit into `KEPT_BYTES`."""
        kept: dict[int, int] = {}

        def count(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()

        with saved_tensors_hooks(count, lambda tensor: tensor):
            self._make(self.data[0])
        return KEPT_BYTES / max(sum(kept.values()), 1) * len(self.data[0][0])


def _hessian_product(
    network: nn.Module, criterion: nn.Module, weights: list[Tensor], inputs: Tensor, targets: Tensor
) -> Product:
    """v -> H v, the gradient of <gradient, v>."""
    loss = criterion(network(inputs), targets)
    gradient = grad(loss, weights, create_graph=True, materialize_grads=True)
    return lambda vector: _pull_back(gradient, weights, vector)


def _gauss_newton_product(
    network: nn.Module, criterion: nn.Module, weights: list[Tensor], inputs: Tensor, targets: Tensor
) -> Product:
    """v -> J^T (second derivatives of the loss) J v; J v is the gradient by u of <J^T u, v>."""
    outputs = network(inputs)
    u = torch.zeros_like(outputs, requires_grad=True)
    pulled = grad(outputs, weights, u, create_graph=True, materialize_grads=True)
    at = outputs.detach().requires_grad_()
    slopes = grad(criterion(at, targets), at, create_graph=True)

    def product(vector: Sequence[Tensor]) -> Sequence[Tensor]:
        pushed = _pull_back(pulled, [u], vector)
        return _pull_back([outputs], weights, _pull_back(slopes, [at], pushed))

    return product


_PRODUCTS = {"hessian": _hessian_product, "gauss_newton": _gauss_newton_product}


def _pull_back(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], along: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Gradient of <outputs, along>, which may be done again; 0 where outputs are constant."""
    pairs = [(y, v) for y, v in zip(outputs, along) if y.requires_grad]
    if not pairs:
        return [torch.zeros_like(x) for x in inputs]
    outputs, along = zip(*pairs)
    return grad(outputs, inputs, along, retain_graph=True, materialize_grads=True)


def _copy(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """A copy in eval mode, as it is written: copies forget `module.compile()`."""
    copy = deepcopy(module).eval()
    copy.zero_grad()
    return copy if dtype is None else copy.to(dtype)


def _converted(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if tensor.is_inference():
        tensor = tensor.clone()  # tensors made in inference mode cannot be differentiated
    return tensor.to(dtype) if tensor.is_floating_point() else tensor  # labels stay
