"""How much the loss changes when the weights move a little: on average, and at the worst."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from src.checks import check_choice, check_integer
from src.measures.directions import check_fits, filter_normalized, moved, norm, random_directions
from src.measures.objective import Objective, Weights

Scale = Literal["absolute", "relative", "filter"]
WorstCaseScale = Literal["absolute", "relative"]


@dataclass(frozen=True)
class SharpnessResult:
    """Changes of the loss along directions, and their means.

    Attributes:
        radii: the R radii t.
        changes: [D, R], L(w + t d) - L(w) with its sign, for D directions d; float64.
    """

    radii: tuple[float, ...]
    changes: Tensor

    @property
    def value(self) -> float:
        """Mean of |L(w + t d) - L(w)| over directions and radii: the sharpness."""
        return self.changes.abs().mean().item()

    @property
    def standard_error(self) -> float:
        """Of `value`, from how the directions differ; NaN for a single direction."""
        return _standard_error(self.changes.abs().mean(1)).item()

    @property
    def values_per_radius(self) -> Tensor:
        """[R], means of |L(w + t d) - L(w)| over directions."""
        return self.changes.abs().mean(0)

    @property
    def standard_errors_per_radius(self) -> Tensor:
        """[R], of `values_per_radius`."""
        return _standard_error(self.changes.abs())


def sharpness(
    objective: Objective,
    radii: Sequence[float],
    *,
    num_directions: int = 10,
    generator: torch.Generator,
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
        num_directions: number of directions; the same for all radii.
        generator: on the CPU.
        scale: unit of t. ``"absolute"``: that of the weights. ``"relative"``: ||w||, the norm of
            all weights. ``"filter"``: each filter of d has the norm of that filter of w
            (`filter_normalized`).

    Returns:
        Changes in the loss's unit, with means and standard errors.

    Raises:
        ValueError: no radius or a negative one, no direction, an unknown scale.

    Reference for ``"filter"``: Li et al., Visualizing the Loss Landscape of Neural Nets, NeurIPS
    2018, section 4.
    """
    check_integer("num_directions", num_directions)
    directions = random_directions(objective.weights(), num_directions, generator)
    return sharpness_along(objective, radii, directions, scale=scale)


def sharpness_along(
    objective: Objective,
    radii: Sequence[float],
    directions: Iterable[Weights],
    *,
    scale: Scale = "absolute",
) -> SharpnessResult:
    """`sharpness` along directions that are given.

    Args:
        objective: L, at the network's weights w.
        radii: see `sharpness`.
        directions: by the names of all trainable parameters; of norm 1 for radii to be distances.
        scale: see `sharpness`.

    Returns:
        See `sharpness`.

    Raises:
        ValueError: what `sharpness` raises, or if a direction does not fit the network.
    """
    check_choice("scale", scale, get_args(Scale))
    for radius in radii:
        _check_radius(radius)
    weights = objective.weights()
    start = objective.value(weights)
    changes = []
    for direction in directions:
        check_fits("a direction", direction, weights)
        scaled = _scaled(direction, scale, objective)
        values = [objective.value(moved(weights, (radius, scaled))) for radius in radii]
        changes.append([value - start for value in values])
    if not changes or not len(radii):
        raise ValueError(
            "sharpness is a mean over at least one direction and one radius; got "
            f"{len(changes)} directions and the radii {list(radii)}. Use for example 10 "
            "directions and the radii [0.1]."
        )
    return SharpnessResult(tuple(radii), torch.tensor(changes, dtype=torch.float64))


def worst_case_sharpness(
    objective: Objective, radius: float, *, scale: WorstCaseScale = "absolute"
) -> float:
    r"""Change of the loss after one step up its gradient: to first order, the worst in a ball.

    .. math:: L\!\left(w + \rho\, \frac{g}{\|g\|}\right) - L(w), \quad g = \nabla L(w)

    with the norm over all trainable parameters together. 0 where the gradient is 0.

    Args:
        objective: L, at the network's weights w.
        radius: rho, at least 0.
        scale: unit of rho, ``"absolute"`` or ``"relative"``, see `sharpness`.

    Returns:
        In the loss's unit.

    Raises:
        ValueError: a negative radius, or an unknown scale.

    Reference: P. Foret, A. Kleiner, H. Mobahi, B. Neyshabur, Sharpness-Aware Minimization for
    Efficiently Improving Generalization, ICLR 2021, equation 2.
    """
    check_choice("scale", scale, get_args(WorstCaseScale))
    _check_radius(radius)
    weights, gradient = objective.weights(), objective.gradient()
    length = norm(gradient)
    if length == 0:
        return 0.0
    step = radius / length * (norm(weights) if scale == "relative" else 1.0)
    return objective.value(moved(weights, (step, gradient))) - objective.value(weights)


def _scaled(direction: Weights, scale: Scale, objective: Objective) -> Weights:
    """The direction that a step of 1 moves along, float64 on the weights' device."""
    weights = objective.weights()
    if scale == "filter":
        return filter_normalized(direction, weights, objective.network)
    factor = norm(weights) if scale == "relative" else 1.0
    return {n: factor * direction[n].to(w.device, torch.float64) for n, w in weights.items()}


def _standard_error(values: Tensor) -> Tensor:
    """Of the mean over the first axis; NaN for a single value."""
    if len(values) == 1:
        return torch.full_like(values[0], math.nan)
    return values.std(0) / math.sqrt(len(values))


def _check_radius(radius: float) -> None:
    if not math.isfinite(radius) or radius < 0:
        raise ValueError(
            "a radius, the distance that weights are moved by, must be a finite number of at "
            f"least 0; got {radius}. Use for example 0.1."
        )
