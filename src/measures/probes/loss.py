"""Probes of the data loss as a function of the weights."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from math import nan

import numpy as np
import torch
from torch import nn

from src.measures.density import spectral_density
from src.measures.directions import norm, random_directions
from src.measures.hessian import hessian_operator
from src.measures.krylov import NotFiniteError
from src.measures.sharpness import (
    expected_from_curvature,
    expected_from_gradient,
    sharpness_along,
    typical_steps,
    worst_case_sharpness,
)
from src.measures.spectrum import extreme_eigenvalues
from src.measures.subject import Reading, Subject
from src.measures.trace import Estimate, Trace, trace
from src.models.components.rollout import Rollout

log = logging.getLogger(__name__)


def sharpness(
    subject: Subject,
    *,
    radii: Sequence[float] = (0.1,),
    relative_radii: Sequence[float] = (),
    filter_radii: Sequence[float] = (),
    worst_case_radius: float | None = 0.01,
    num_directions: int = 10,
    max_products: int | None = None,
    seed: int = 0,
) -> Reading:
    """`sharpness_along` random directions, the same on every scale, and `worst_case_sharpness`.

    Values, in the loss's unit: ``sharpness``, the absolute change, mostly the gradient's, and
    ``sharpness_curvature``, the symmetric change, each with ``..._standard_error`` over directions;
    ``sharpness_from_gradient``, what the absolute change of a linear loss would be, and
    ``sharpness_curvature_from_trace``, what the symmetric one of a quadratic loss would be, where
    ``max_products`` with the Hessian are allowed. The same as ``sharpness_relative...`` (radii in
    units of ||w||) and ``sharpness_filter...`` (directions filter-normalised); scales without a
    radius are left out. ``sharpness_worst_case`` has its radius in units of ||w||. Details: all of
    these at each radius.
    """
    objective = subject.objective()
    gradient, values, details = objective.gradient(), {}, {}
    scales = {"absolute": radii, "relative": relative_radii, "filter": filter_radii}
    scales = {scale: list(of_scale) for scale, of_scale in scales.items() if len(of_scale)}
    steps = {scale: typical_steps(objective, scale) for scale in scales}
    traces = {}
    if max_products is not None and scales:
        with subject.progress(desc="products of the Hessian", unit="") as bar:
            operator = hessian_operator(objective, progress=bar.update)
            limits = {"max_products": max_products, "seed": seed}
            for scale, of_scale in steps.items():
                if scale == "relative" and "absolute" in traces:  # the same steps, ||w|| times
                    squared = norm(objective.weights()) ** 2
                    traces[scale] = Estimate(*(squared * part for part in traces["absolute"]))
                else:
                    traces[scale] = expected_from_curvature(operator, of_scale, **limits)
    for scale, of_scale in scales.items():
        generator = torch.Generator().manual_seed(seed)
        directions = random_directions(objective.weights(), num_directions, generator)
        found = sharpness_along(objective, of_scale, directions, scale=scale)
        slope, t = expected_from_gradient(steps[scale], gradient), np.array(of_scale)
        name = "sharpness" if scale == "absolute" else f"sharpness_{scale}"
        details[scale] = {"radii": of_scale, "from_gradient": (slope * t).tolist()}
        values[f"{name}_from_gradient"] = slope * t.mean().item()
        for suffix, kind in (("", "absolute"), ("_curvature", "symmetric")):
            mean = getattr(found, kind)
            values[f"{name}{suffix}"] = mean.value
            if num_directions > 1:
                values[f"{name}{suffix}_standard_error"] = mean.standard_error
            details[scale][kind] = mean.per_radius.tolist()
            details[scale][f"{kind}_standard_errors"] = mean.standard_errors.tolist()
        if scale in traces:
            value, error = (part * t**2 for part in traces[scale])
            values[f"{name}_curvature_from_trace"] = value.mean().item()
            values[f"{name}_curvature_from_trace_standard_error"] = error.mean().item()
            forms = {"from_trace": value.tolist(), "from_trace_standard_errors": error.tolist()}
            details[scale] |= forms
    if worst_case_radius is not None:
        worst = worst_case_sharpness(objective, worst_case_radius, gradient)
        values["sharpness_worst_case"] = worst
    return Reading(values, details)


def hessian(
    subject: Subject,
    *,
    num_eigenvalues: int = 5,
    num_probes: int = 10,
    lanczos_steps: int = 30,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
    trace_tolerance: float = 0.05,
    trace_products: int = 100,
    kind: str = "hessian",
    double: bool = False,
    seed: int = 0,
) -> Reading:
    """`extreme_eigenvalues`, `trace` and `spectral_density` of the `hessian_operator`.

    Values: ``hessian_max`` and ``hessian_min``, the outermost eigenvalues, each with
    ``..._residual`` (relative to the largest absolute eigenvalue) and ``..._converged`` (1; 0 where
    the eigenvalue is not to be relied on, or missing); ``hessian_trace`` with
    ``..._relative_error``, at most ``trace_tolerance`` if ``trace_products`` suffice;
    ``hessian_trace/<layer>`` and ``hessian_trace_by_kind/<kind>``, its parts that belong to the
    parameters of a layer, and to those of a `kind_of_parameter`, which add up to it;
    ``hessian_negative_fraction`` (the part of the spectrum below zero); traces and fractions with
    ``..._standard_error``; names begin with the kind. Details: all eigenvalues and the density. NaN
    where products are not finite. ``double`` computes in float64.
    """
    objective, dtype = subject.objective(), torch.float64 if double else None
    limits = {"tolerance": tolerance, "max_iterations": max_iterations, "seed": seed}
    weights = objective.weights()
    sizes = [w.numel() for w in weights.values()]
    enough = {"tolerance": trace_tolerance, "max_products": trace_products, "seed": seed}
    try:
        with subject.progress(desc="products of the Hessian", unit="") as bar:
            operator = hessian_operator(objective, kind, dtype, bar.update)
            ends = extreme_eigenvalues(operator, num_eigenvalues, **limits)
            total = trace(operator, sizes=sizes, **enough)
            density = spectral_density(operator, num_probes, lanczos_steps, seed=seed + 1)
    except NotFiniteError as error:
        missing = {f"{kind}_{name}": nan for name in ("max", "min", "trace")}
        return Reading(missing, {"reason": str(error)})
    values = {}
    for name, end in ((f"{kind}_max", ends.largest), (f"{kind}_min", ends.smallest)):
        if end.eigenvalues:
            values |= {name: end.eigenvalues[0], f"{name}_residual": end.residuals[0]}
        values[f"{name}_converged"] = float(end.converged)
        if not end.converged:
            log.warning("%s: Lanczos did not converge; raise max_iterations or tolerance.", name)
    values |= _traces(f"{kind}_trace", total, objective.network, list(weights))
    if total.relative_error > trace_tolerance:
        text = "%s_trace: its standard error is %.0f %% of it; raise trace_products."
        log.warning(text, kind, 100 * total.relative_error)
    values |= {
        f"{kind}_negative_fraction": density.negative_fraction,
        f"{kind}_negative_fraction_standard_error": density.negative_fraction_error,
    }
    details = {"ends": asdict(ends), "trace_products": total.num_products}
    details |= {"density": asdict(density), "kind": kind, "num_parameters": operator.shape[0]}
    details |= {"num_samples": objective.num_samples, "num_products": operator.num_products}
    return Reading(values, details)


def _traces(name: str, total: Trace, network: nn.Module, parameters: list[str]) -> dict[str, float]:
    """The trace, and its parts by layer and by kind of parameter, each with its error."""
    parts = {"": [True] * len(parameters)}
    rolled_out = "net." if isinstance(network, Rollout) else ""
    for place, parameter in enumerate(parameters):
        # a parameter of the network itself counts as a layer
        layer = parameter.removeprefix(rolled_out).rpartition(".")[0] or parameter
        for part in (f"/{layer}", f"_by_kind/{kind_of_parameter(network, parameter)}"):
            parts.setdefault(part, [False] * len(parameters))[place] = True
    values = {f"{name}_relative_error": total.relative_error}
    for part, members in parts.items():
        start, _, end = part.partition("/")
        error = f"{name}{start}_standard_error" + (f"/{end}" if end else "")
        values[f"{name}{part}"], values[error] = total.of(members)
    return values


def kind_of_parameter(network: nn.Module, name: str) -> str:
    """Name the kind of a parameter: ``norm``, ``kernels``, ``relaxed_weights`` or ``biases``.

    Kernels are the weights of convolutions and linear layers, those of steerable layers that
    depend on the pixel among them; group and kernel biases count as biases, learned thetas as
    relaxed weights.
    """
    layer, _, attribute = name.rpartition(".")
    weight = getattr(network.get_submodule(layer), "weight", None)
    if weight is not None and weight.ndim == 1:  # one scale per channel
        return "norm"
    if attribute in ("relaxed_weights", "relaxation"):
        return "relaxed_weights"
    return "biases" if "bias" in attribute else "kernels"
