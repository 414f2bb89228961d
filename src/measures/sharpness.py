"""How much the loss changes when the weights move a little: on average, and at the worst."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from src.checks import check_choice, check_number
from src.measures.directions import check_fits, filter_normalized, moved, norm
from src.measures.krylov import SymmetricOperator
from src.measures.objective import Objective, Weights
from src.measures.trace import Estimate, trace

Scale = Literal["absolute", "relative", "filter"]


class Mean(NamedTuple):
    """Means over directions at R radii, in the loss's unit; errors are NaN for one direction.

    Attributes:
        value: mean over directions and radii.
        standard_error: its standard error over directions.
        per_radius: [R], means over directions.
        standard_errors: [R], their standard errors.
    """

    value: float
    standard_error: float
    per_radius: Tensor
    standard_errors: Tensor


class SharpnessResult(NamedTuple):
    """Changes of the loss along D directions, forwards and backwards, at R radii.

    Attributes:
        changes: [D, 2, R], L(w + t d) - L(w) and L(w - t d) - L(w); float64.
        absolute: of the sizes of both changes: the sharpness.
        symmetric: of the mean of both changes, in which the gradient cancels.
    """

    changes: Tensor
    absolute: Mean
    symmetric: Mean


def sharpness_along(
    objective: Objective,
    radii: Sequence[float],
    directions: Iterable[Weights],
    *,
    scale: Scale = "absolute",
) -> SharpnessResult:
    r"""Mean changes of the loss at a distance from the weights, in random directions.

    .. math:: S = \mathrm{mean}_{d,\, t} \, |L(w + t\, d) - L(w)|, \qquad
              C = \mathrm{mean}_{d,\, t} \, \tfrac12 (L(w + t\, d) + L(w - t\, d)) - L(w)

    with d uniform on the unit sphere over all trainable parameters together. All terms are
    taken in eval mode on the same samples, so that S and C are exactly 0 at t = 0. Of a network in
    float32 changes below about 1e-7 L are rounding.

    S, the absolute change, is mostly the gradient's; C, the symmetric change, has no gradient in
    it and is the curvature's: see `expected_from_gradient`, `expected_from_curvature`. -d is as
    likely as d, so S is the mean over both; a pair of them counts as one draw in standard errors.

    A unit vector in P dimensions changes each weight by about 1 / sqrt(P): at equal ``absolute``
    radii the weights of a larger network, or larger weights, are disturbed relatively less. The
    other scales serve to compare networks.

    Args:
        objective: L, at the network's weights w.
        radii: values of t, at least 0; at least one.
        directions: d, tensors by the names of all trainable parameters, see `random_directions`;
            at least one.
        scale: unit of t. ``"absolute"``: that of the weights. ``"relative"``: ||w||, the norm of
            all weights. ``"filter"``: each filter of d has the norm of that filter of w
            (`filter_normalized`).

    Raises:
        ValueError: a negative radius, a direction that does not fit the network, an unknown scale.

    Reference for ``"filter"``: Li et al., Visualizing the Loss Landscape of Neural Nets, NeurIPS
    2018, section 4.
    """
    check_choice("scale", scale, get_args(Scale))
    for radius in radii:
        check_number("radius", radius, minimum=0, fix="0.1")
    weights = objective.weights()
    start = objective.value(weights)
    factor = norm(weights) if scale == "relative" else 1.0
    changes = []
    for direction in directions:
        check_fits("a direction", direction, weights)
        if scale == "filter":
            scaled = filter_normalized(direction, weights, objective.network)
        else:
            scaled = {
                n: factor * d.to(weights[n].device, torch.float64) for n, d in direction.items()
            }
        steps = [[sign * radius for radius in radii] for sign in (1, -1)]
        values = [[objective.value(moved(weights, (t, scaled))) for t in side] for side in steps]
        changes.append(torch.tensor(values, dtype=torch.float64) - start)
    changes = torch.stack(changes)
    return SharpnessResult(changes, _mean(changes.abs().mean(1)), _mean(changes.mean(1)))


def typical_steps(objective: Objective, scale: Scale = "absolute") -> Weights:
    r"""Root mean square s_p by which a direction moves each weight, at t = 1; float64.

    1 / sqrt(P) for ``"absolute"``, ||w|| / sqrt(P) for ``"relative"``, ||w_i|| / sqrt(P_i) in a
    filter i of P_i weights for ``"filter"``.
    """
    weights = objective.weights()
    ones = {name: torch.ones_like(w, dtype=torch.float64) for name, w in weights.items()}
    if scale == "filter":
        return filter_normalized(ones, weights, objective.network)
    factor = (norm(weights) if scale == "relative" else 1.0) / norm(ones)
    return {name: factor * one for name, one in ones.items()}


def expected_from_gradient(steps: Weights, gradient: Weights) -> float:
    r"""Mean absolute change per t where the loss is linear and the weights are many.

    .. math:: \mathrm{mean}_d\, |t\, g \cdot d| \approx
              t \sqrt{2 / \pi}\; \Big(\sum_p s_p^2\, g_p^2\Big)^{1/2}
              = t\, \|g\| \sqrt{2 / (\pi P)} \text{ on the absolute scale}

    since a sum of many independent terms is Gaussian. s_p: `typical_steps`; g: the gradient.
    """
    return math.sqrt(2 / math.pi) * norm({n: s * gradient[n] for n, s in steps.items()})


def expected_from_curvature(
    operator: SymmetricOperator, steps: Weights, **options: Any
) -> Estimate:
    r"""Mean symmetric change per t^2 where the loss is quadratic, by the `trace` of S H S.

    .. math:: \mathrm{mean}_d\, \tfrac12 t^2\, d^\top H d = \tfrac12 t^2 \sum_p s_p^2\, H_{pp}
              = t^2\, \mathrm{tr}\, H / (2 P) \text{ on the absolute scale}

    with S = diag(s), s_p: `typical_steps`. Options are those of `trace`.
    """
    s = torch.cat([step.flatten() for step in steps.values()]).cpu().numpy()
    scaled = SymmetricOperator(lambda v: s * operator.matvec(s * v), len(s))
    value, error = trace(scaled, **options).of()
    return Estimate(value / 2, error / 2)


def worst_case_sharpness(
    objective: Objective, radius: float, gradient: Weights | None = None
) -> float:
    r"""Change of the loss after one step up its gradient: to first order, the worst in a ball.

    .. math:: L\!\left(w + \rho\, \|w\| \frac{g}{\|g\|}\right) - L(w), \quad g = \nabla L(w)

    with norms over all trainable parameters together. 0 where the gradient is 0.

    Args:
        objective: L, at the network's weights w.
        radius: rho, at least 0, in units of ||w||.
        gradient: g, where it is known already.

    Returns:
        The change, in the loss's unit.

    Raises:
        ValueError: a negative radius.

    Reference: P. Foret, A. Kleiner, H. Mobahi, B. Neyshabur, Sharpness-Aware Minimization for
    Efficiently Improving Generalization, ICLR 2021, equation 2.
    """
    check_number("radius", radius, minimum=0, fix="0.1")
    weights, gradient = objective.weights(), gradient or objective.gradient()
    length = norm(gradient)
    if length == 0:
        return 0.0
    step = radius / length * norm(weights)
    return objective.value(moved(weights, (step, gradient))) - objective.value(weights)


def _mean(samples: Tensor) -> Mean:
    """Means of samples [D, R], and standard errors over the first axis."""
    errors = [_standard_error(values) for values in (samples.mean(1), samples)]
    return Mean(samples.mean().item(), errors[0].item(), samples.mean(0), errors[1])


def _standard_error(values: Tensor) -> Tensor:
    """Standard error of the mean over the first axis; NaN for a single value."""
    if len(values) == 1:
        return torch.full_like(values[0], math.nan)
    return values.std(0) / math.sqrt(len(values))
