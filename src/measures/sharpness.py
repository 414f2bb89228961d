"""How much the loss changes when the weights move a little: on average, and at the worst."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from src.checks import check_choice, check_number
from src.measures.directions import check_fits, filter_normalized, moved, norm
from src.measures.objective import Objective, Weights

Scale = Literal["absolute", "relative", "filter"]


class SharpnessResult(NamedTuple):
    """Changes of the loss along D directions at R radii, and their means, in the loss's unit.

    Attributes:
        changes: [D, R], L(w + t d) - L(w) with its sign; float64.
        value: mean of |L(w + t d) - L(w)| over directions and radii: the sharpness.
        standard_error: standard error of `value` over directions; NaN for a single one.
        values_per_radius: [R], means over directions.
        standard_errors_per_radius: [R], their standard errors.
    """

    changes: Tensor
    value: float
    standard_error: float
    values_per_radius: Tensor
    standard_errors_per_radius: Tensor


def sharpness_along(
    objective: Objective,
    radii: Sequence[float],
    directions: Iterable[Weights],
    *,
    scale: Scale = "absolute",
) -> SharpnessResult:
    r"""Mean change of the loss at a distance from the weights, in random directions.

    .. math:: S = \mathrm{mean}_{d,\, t} \, |L(w + t\, d) - L(w)|

    with d uniform on the unit sphere over all trainable parameters together. Both terms are
    taken in eval mode on the same samples, one as the other, so that S is exactly 0 at t = 0.
    Of a network in float32 changes below about 1e-7 L are rounding.

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
        values = [objective.value(moved(weights, (radius, scaled))) for radius in radii]
        changes.append([value - start for value in values])
    changes = torch.tensor(changes, dtype=torch.float64)
    sizes = changes.abs()
    return SharpnessResult(
        changes=changes,
        value=sizes.mean().item(),
        standard_error=_standard_error(sizes.mean(1)).item(),
        values_per_radius=sizes.mean(0),
        standard_errors_per_radius=_standard_error(sizes),
    )


def worst_case_sharpness(objective: Objective, radius: float) -> float:
    r"""Change of the loss after one step up its gradient: to first order, the worst in a ball.

    .. math:: L\!\left(w + \rho\, \|w\| \frac{g}{\|g\|}\right) - L(w), \quad g = \nabla L(w)

    with norms over all trainable parameters together. 0 where the gradient is 0.

    Args:
        objective: L, at the network's weights w.
        radius: rho, at least 0, in units of ||w||.

    Returns:
        The change, in the loss's unit.

    Raises:
        ValueError: a negative radius.

    Reference: P. Foret, A. Kleiner, H. Mobahi, B. Neyshabur, Sharpness-Aware Minimization for
    Efficiently Improving Generalization, ICLR 2021, equation 2.
    """
    check_number("radius", radius, minimum=0, fix="0.1")
    weights, gradient = objective.weights(), objective.gradient()
    length = norm(gradient)
    if length == 0:
        return 0.0
    step = radius / length * norm(weights)
    return objective.value(moved(weights, (step, gradient))) - objective.value(weights)


def _standard_error(values: Tensor) -> Tensor:
    """Standard error of the mean over the first axis; NaN for a single value."""
    if len(values) == 1:
        return torch.full_like(values[0], math.nan)
    return values.std(0) / math.sqrt(len(values))
