"""Every measure of a network on fixed batches, with its options, under the names that are logged.

Callbacks take them along training and `src/measure.py` takes them of checkpoints, so both agree.
Options that are not listed are those of the functions that the first line names; ``output`` and
``input``, how the network's output and input transform, are by default as the module says.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from math import nan
from statistics import fmean
from typing import Any

import torch

from src.measures import symmetry as symmetry_measures
from src.measures.actions import group_of
from src.measures.density import spectral_density, trace
from src.measures.directions import random_directions
from src.measures.equivariance import equivariance_errors
from src.measures.hessian import hessian_operator
from src.measures.krylov import NotFiniteError
from src.measures.landscape import loss_on_line, loss_on_plane
from src.measures.lie_derivative import lie_derivatives
from src.measures.sharpness import sharpness_along, worst_case_sharpness
from src.measures.spectrum import extreme_eigenvalues
from src.measures.subject import Reading, Subject
from src.models.components.gcnn.groups import Group, make_group
from src.models.components.gcnn.relaxation import relaxed_layers

log = logging.getLogger(__name__)


def equivariance_error(
    subject: Subject,
    *,
    group: str | Group | None = None,
    fallback_group: str | Group = "c4",
    per_layer: bool = True,
    output: str | None = None,
    input: str | None = None,
    interpolation: str = "bilinear",
    elements: str = "all",
    angles: int | None = None,
) -> Reading:
    """`equivariance_errors` of the network and of its layers.

    Values: ``equivariance_error``, ``equivariance_error/<layer>`` and, where elements do not map
    the pixel grid to itself, ``equivariance_error_floor``, see `interpolation_floor`.

    Args:
        group: the group to measure with; None: the network's own.
        fallback_group: the group where the network has none, or the trivial one.
        angles: adds to the details a curve of this many angles, multiples of 360° / angles.
    """
    network, inputs = subject.network, subject.inputs()
    own = group_of(network)
    group = make_group(group or (own if own and own.order > 1 else fallback_group))
    options = _kinds(subject, input, output) | {"interpolation": interpolation}
    asked = options | {"elements": elements, "per_layer": per_layer}
    found = equivariance_errors(network, inputs, group, **asked)
    values = _with_layers("equivariance_error", found.overall, found.per_layer)
    if found.floor > 0:
        values["equivariance_error_floor"] = found.floor
    details = {"group": group.name}
    if angles is not None:
        curve = equivariance_errors(network, inputs, f"c{angles}", per_layer=False, **options)
        details["angles"] = {
            "degrees": [360 * k / angles for k in range(angles)],
            "errors": [0.0, *curve.per_element.values()],
            "floors": [0.0, *curve.floor_per_element.values()],
        }
    return Reading(values, details)


def lie_derivative(
    subject: Subject,
    *,
    transformations: Sequence[str] = ("rotation", "translation_x", "translation_y"),
    per_layer: bool = True,
    output: str | None = None,
    input: str | None = None,
) -> Reading:
    """`lie_derivatives` under every transformation.

    Values, in the output's unit: per radian of rotation ``lie_derivative`` and
    ``lie_derivative/<layer>`` (contributions of the layers), per pixel of translation
    ``lie_derivative_translation_x[/<layer>]`` and ``..._y``; each with ``..._relative`` (to the
    RMS of the output) and ``..._floor``, that of the identity network.
    """
    values, inputs = {}, subject.inputs()
    options = _kinds(subject, input, output) | {"per_layer": per_layer}
    for transformation in transformations:
        name = "lie_derivative" + ("" if transformation == "rotation" else f"_{transformation}")
        found = lie_derivatives(subject.network, inputs, transformation, **options)
        values |= _with_layers(name, found.overall, found.per_layer)
        values |= {f"{name}_relative": found.relative, f"{name}_floor": found.floor}
    return Reading(values)


def sharpness(
    subject: Subject,
    *,
    radii: Sequence[float] = (0.1,),
    relative_radii: Sequence[float] = (0.01,),
    filter_radii: Sequence[float] = (0.01,),
    worst_case_radius: float | None = 0.01,
    num_directions: int = 5,
    seed: int = 0,
) -> Reading:
    """`sharpness_along` random directions, the same on every scale, and `worst_case_sharpness`.

    Values, in the loss's unit: ``sharpness`` (radii in the weights' unit), ``sharpness_relative``
    and ``sharpness_worst_case`` (radii in units of ||w||), ``sharpness_filter`` (directions
    filter-normalised), each but the worst case with ``..._standard_error`` over directions; those
    without a radius are left out. Details: radii, and the mean change of the loss at each.
    """
    objective = subject.objective()
    values, details = {}, {}
    scales = {"absolute": radii, "relative": relative_radii, "filter": filter_radii}
    for scale, of_scale in scales.items():
        if len(of_scale) == 0:
            continue
        generator = torch.Generator().manual_seed(seed)
        directions = random_directions(objective.weights(), num_directions, generator)
        name = "sharpness" if scale == "absolute" else f"sharpness_{scale}"
        found = sharpness_along(objective, of_scale, directions, scale=scale)
        values[name] = found.value
        if num_directions > 1:
            values[f"{name}_standard_error"] = found.standard_error
        details[scale] = {
            "radii": list(of_scale),
            "changes": found.values_per_radius.tolist(),
            "standard_errors": found.standard_errors_per_radius.tolist(),
        }
    if worst_case_radius is not None:
        values["sharpness_worst_case"] = worst_case_sharpness(objective, worst_case_radius)
    return Reading(values, details)


def hessian(
    subject: Subject,
    *,
    num_eigenvalues: int = 5,
    num_probes: int = 10,
    lanczos_steps: int = 30,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
    kind: str = "hessian",
    double: bool = False,
    seed: int = 0,
) -> Reading:
    """`extreme_eigenvalues`, `trace` and `spectral_density` of the `hessian_operator`.

    Values: ``hessian_max`` and ``hessian_min``, the outermost eigenvalues, each with
    ``..._residual`` (relative to the largest absolute eigenvalue) and ``..._converged`` (1; 0 where
    the eigenvalue is not to be relied on, or missing); ``hessian_trace`` and
    ``hessian_negative_fraction`` (the part of the spectrum below zero), each with
    ``..._standard_error``; names begin with the kind. Details: all eigenvalues and the density. NaN
    where products are not finite. ``double`` computes in float64.
    """
    objective, dtype = subject.objective(), torch.float64 if double else None
    limits = {"tolerance": tolerance, "max_iterations": max_iterations, "seed": seed}
    try:
        with subject.progress(desc="products of the Hessian", unit="") as bar:
            operator = hessian_operator(objective, kind, dtype, bar.update)
            ends = extreme_eigenvalues(operator, num_eigenvalues, **limits)
            total = trace(operator, num_probes, seed=seed)
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
    values |= {
        f"{kind}_trace": total.value,
        f"{kind}_trace_standard_error": total.standard_error,
        f"{kind}_negative_fraction": density.negative_fraction,
        f"{kind}_negative_fraction_standard_error": density.negative_fraction_error,
    }
    details = {"ends": asdict(ends), "trace": asdict(total), "density": asdict(density)}
    details |= {"kind": kind, "num_parameters": operator.shape[0]}
    details |= {"num_samples": objective.num_samples, "num_products": operator.num_products}
    return Reading(values, details)


def landscape(
    subject: Subject, *, resolution: int = 15, margin: float = 0.2, line_points: int = 21
) -> Reading:
    """`loss_on_plane` and `loss_on_line` of the path of a training.

    Values: ``path_explained_variance``, the part of the path's spread around its end that the
    plane holds, and ``path_barrier``, by how much the loss on the straight line rises above the
    higher of its ends. Details: the plane, the path on it, and the line of ``line_points``.
    """
    objective, points = subject.objective(), subject.path()
    states = [point.state for point in points]
    progress = partial(subject.progress, desc="loss on the plane")
    plane = loss_on_plane(objective, states, resolution, margin, progress)
    line = loss_on_line(objective, states[0], states[-1], line_points)
    components, barrier = plane.components, line.losses.max() - line.losses[[0, -1]].max()
    values = {"path_explained_variance": components.explained_variance.sum().item()}
    values["path_barrier"] = barrier.item()
    details = {
        "epochs_trained": [point.epochs_trained for point in points],
        "steps": [point.step for point in points],
        "coordinates": components.coordinates.tolist(),
        "explained_variance": components.explained_variance.tolist(),
        "distances_from_plane": components.distances.tolist(),
        "path_losses": plane.path_losses.tolist(),
        "plane": {"a": plane.a.tolist(), "b": plane.b.tolist(), "losses": plane.losses.tolist()},
        "line": {"positions": line.positions.tolist(), "losses": line.losses.tolist()},
    }
    return Reading(values, details)


def symmetry(subject: Subject, *, tolerance: float = 0.01) -> Reading:
    """`src.measures.symmetry` of every relaxed layer, and how strict layers change the scores.

    Values: ``symmetric_fraction``, the mean over layers, and ``symmetric_fraction/<layer>``;
    ``projection/<score>``, scores of the test data (if the subject has any) with every relaxed
    layer made strict, and ``projection_change/<score>``, less those of the network as it is.
    Details: maps of the group's elements by layer, or why there is no value.
    """
    if not relaxed_layers(subject.network):
        return Reading({}, {"reason": f"{type(subject.network).__name__} has no relaxed layer"})
    found = symmetry_measures.symmetry(subject.network, subject.score, tolerance=tolerance)
    fractions = {name: layer.symmetric_fraction for name, layer in found.layers.items()}
    values = _with_layers("symmetric_fraction", fmean(fractions.values()), fractions)
    for name, score in found.scores.items():
        values[f"projection/{name}"] = score["after"]
        values[f"projection_change/{name}"] = score["difference"]
    return Reading(values, asdict(found))


def _kinds(subject: Subject, input: str | None, output: str | None) -> dict[str, Any]:
    """How inputs and outputs transform: as given, or as the module says."""
    input = input or getattr(subject.module, "input_kind", "scalar")
    return {"input": input, "output": output or getattr(subject.module, "output_kind", "invariant")}


def _with_layers(name: str, overall: float, per_layer: dict[str, float]) -> dict[str, float]:
    return {name: overall} | {f"{name}/{layer}": value for layer, value in per_layer.items()}
