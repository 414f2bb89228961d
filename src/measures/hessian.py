"""Curvature of a network's data loss: its Hessian, or the generalised Gauss-Newton matrix."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from src.checks import check_choice
from src.measures.context import preserved_rng
from src.measures.density import SpectralDensity, Trace, spectral_density, trace
from src.measures.krylov import Array, SymmetricOperator
from src.measures.objective import Objective
from src.measures.spectrum import ExtremeEigenvalues, extreme_eigenvalues

Kind = Literal["hessian", "gauss_newton"]


@dataclass(frozen=True)
class HessianSpectrum:
    """What is known of a spectrum from products with vectors.

    Attributes:
        kind: ``"hessian"`` or ``"gauss_newton"``.
        num_parameters: P, rows of the matrix.
        num_samples: N, samples of the loss.
        ends: the largest and the smallest eigenvalues.
        trace: sum of all eigenvalues.
        density: distribution of all eigenvalues.
        num_products: matrix-vector products of all three.
    """

    kind: str
    num_parameters: int
    num_samples: int
    ends: ExtremeEigenvalues
    trace: Trace
    density: SpectralDensity
    num_products: int

    def as_dict(self) -> dict[str, Any]:
        """As dicts, lists and plain numbers, for JSON."""
        return asdict(self)


def hessian_operator(
    objective: Objective,
    kind: Kind = "hessian",
    dtype: torch.dtype | None = None,
    progress: Callable[[], None] | None = None,
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
        dtype: of the copy and of the data, e.g. ``torch.float64``; by default as they are.
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
    curvlinops = _curvlinops()
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
        with torch.inference_mode(False), preserved_rng(), _without_jit_warnings():
            return on_arrays.matvec(vector)

    precision = max(torch.finfo(weight.dtype).eps for weight in weights)
    return SymmetricOperator(multiply, matrix.shape[0], precision=precision, progress=progress)


def hessian_spectrum(
    objective: Objective,
    *,
    num_eigenvalues: int = 5,
    num_probes: int = 10,
    lanczos_steps: int = 30,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
    kind: Kind = "hessian",
    dtype: torch.dtype | None = None,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
) -> HessianSpectrum:
    """Both ends of the spectrum, trace and spectral density of `hessian_operator`'s matrix.

    Args:
        objective: the data loss on fixed samples.
        num_eigenvalues: at each end, see `extreme_eigenvalues`.
        num_probes: random vectors for the trace, and others for the density.
        lanczos_steps: products for each vector of the density, see `spectral_density`.
        tolerance: largest residual of eigenvalues, relative to the largest |eigenvalue|.
        max_iterations: restarts in search of eigenvalues.
        kind: ``"hessian"`` or ``"gauss_newton"``.
        dtype: to compute in; by default that of the network.
        seed: of all random vectors.
        progress: called after each product: num_probes * (1 + lanczos_steps) of them, and for
            the ends perhaps 50 to 100.

    Raises:
        ImportError: without the package curvlinops.
        ValueError: an argument out of range, or a product that is not finite.
    """
    operator = hessian_operator(objective, kind, dtype, progress)
    ends = extreme_eigenvalues(
        operator,
        num_eigenvalues,
        tolerance=tolerance,
        max_iterations=max_iterations,
        seed=seed,
    )
    return HessianSpectrum(
        kind=kind,
        num_parameters=operator.shape[0],
        num_samples=objective.num_samples,
        ends=ends,
        trace=trace(operator, num_probes, seed=seed),
        density=spectral_density(operator, num_probes, lanczos_steps, seed=seed + 1),
        num_products=operator.num_products,
    )


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
    """Floating point numbers in that dtype, labels as they are."""
    if tensor.is_inference():
        tensor = tensor.clone()  # what was made in inference mode cannot be differentiated
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _curvlinops() -> ModuleType:
    try:
        with _without_jit_warnings():
            import curvlinops
    except ModuleNotFoundError as error:
        raise ImportError(
            "the Hessian needs the package curvlinops-for-pytorch, which is not installed. Run "
            '`pip install -e ".[curvature]"`.'
        ) from error
    return curvlinops


@contextmanager
def _without_jit_warnings() -> Iterator[None]:
    """Without the warning that torch's forward mode, when first used, gives of `torch.jit`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")
        yield
