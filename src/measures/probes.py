"""Every measure of a network on fixed batches, with its options, under the names that are logged.

Callbacks take them along training and `src/measure.py` takes them of checkpoints, so both agree.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from src.measures import equivariance as equivariance_measures
from src.measures import lie_derivative as lie_measures
from src.measures import sharpness as sharpness_measures
from src.measures import symmetry as symmetry_measures
from src.measures.hessian import hessian_spectrum
from src.measures.interpolation_floor import interpolation_floor_per_element
from src.measures.landscape import loss_on_line, loss_on_plane
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
    """`src.measures.equivariance_error` of the network and of its layers.

    Values: ``equivariance_error``, ``equivariance_error/<layer>`` and, where elements do not map
    the pixel grid to itself, ``equivariance_error_floor``, what turning there and back loses.
    Details: with ``angles``, the error of every rotation by a multiple of 360° / angles.

    Args:
        subject: what to measure.
        group: the group to measure with; None: the network's own.
        fallback_group: taken where ``group`` is None and the network has no group, or the
            trivial one.
        per_layer: whether to measure each of the network's blocks too.
        output: how the network's output transforms; None: as the module says.
        input: how its input transforms; None: as the module says.
        interpolation: used for elements that do not map the pixel grid to itself.
        elements: ``"all"``, or ``"exact"``: only those that map the pixel grid to itself.
        angles: number of angles of the curve; None: no curve.
    """
    inputs, network = subject.inputs(), subject.network
    chosen = _group_for(network, group, fallback_group)
    options = _kinds(subject, input, output) | {"interpolation": interpolation}
    found = equivariance_measures.equivariance_errors(
        network, inputs, chosen, elements=elements, per_layer=per_layer, **options
    )
    values = _with_layers("equivariance_error", found.overall, found.per_layer)
    if found.floor > 0:
        values["equivariance_error_floor"] = found.floor
    details = {"group": chosen.name}
    if angles is not None:
        details["angles"] = _curve(network, inputs, angles, options)
    return Reading(values, details)


def lie_derivative(
    subject: Subject,
    *,
    transformations: Sequence[str] = ("rotation", "translation_x", "translation_y"),
    per_layer: bool = True,
    output: str | None = None,
    input: str | None = None,
) -> Reading:
    """`src.measures.lie_derivative` under every transformation.

    Values, in the output's unit: per radian of rotation ``lie_derivative`` and
    ``lie_derivative/<layer>`` (contributions of the layers), per pixel of translation
    ``lie_derivative_translation_x[/<layer>]`` and ``..._y``; each with ``..._relative`` (to the
    RMS of the output) and ``..._floor``, that of the identity network.

    Args:
        subject: what to measure.
        transformations: some of ``"rotation"``, ``"translation_x"``, ``"translation_y"``.
        per_layer: whether to attribute it to the network's blocks.
        output: how the network's output transforms; None: as the module says.
        input: how its input transforms; None: as the module says.
    """
    inputs, kinds, values = subject.inputs(), _kinds(subject, input, output), {}
    for transformation in transformations:
        name = _lie_name(transformation)
        found = lie_measures.lie_derivatives(
            subject.network, inputs, transformation, per_layer=per_layer, **kinds
        )
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
    """`src.measures.sharpness` on the scales that are asked for, and the worst case.

    Values, in the loss's unit: ``sharpness`` (radii in the weights' unit), ``sharpness_relative``
    and ``sharpness_worst_case`` (radii in units of ||w||), ``sharpness_filter`` (directions
    filter-normalised), each but the worst case with ``..._standard_error`` over directions.
    Details: radii, and the mean change of the loss at each of them.

    Args:
        subject: what to measure.
        radii: of ``sharpness``; none leaves it out, as with the other two.
        relative_radii: of ``sharpness_relative``.
        filter_radii: of ``sharpness_filter``.
        worst_case_radius: of ``sharpness_worst_case``; None leaves it out.
        num_directions: number of directions, the same ones on all scales.
        seed: of the directions.
    """
    objective = subject.objective()
    values: dict[str, float] = {}
    details: dict[str, Any] = {}
    scales = {"absolute": radii, "relative": relative_radii, "filter": filter_radii}
    for scale, of_scale in scales.items():
        if not of_scale:
            continue
        name = "sharpness" if scale == "absolute" else f"sharpness_{scale}"
        found = sharpness_measures.sharpness(
            objective,
            of_scale,
            num_directions=num_directions,
            generator=torch.Generator().manual_seed(seed),
            scale=scale,
        )
        values |= {name: found.value}
        if num_directions > 1:
            values |= {f"{name}_standard_error": found.standard_error}
        details[scale] = {
            "radii": list(of_scale),
            "changes": found.values_per_radius.tolist(),
            "standard_errors": found.standard_errors_per_radius.tolist(),
        }
    if worst_case_radius is not None:
        worst = sharpness_measures.worst_case_sharpness(
            objective, worst_case_radius, scale="relative"
        )
        values |= {"sharpness_worst_case": worst}
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
    """`src.measures.hessian.hessian_spectrum` of the data loss.

    Values: ``hessian_max`` and ``hessian_min``, the outermost eigenvalues, each with
    ``..._residual`` (relative to the largest absolute eigenvalue) and ``..._converged`` (1, or 0
    where Lanczos did not: the value is then no eigenvalue to rely on, and missing where nothing
    was found); ``hessian_trace`` and ``hessian_negative_fraction``, the part of the spectrum below
    zero, each with ``..._standard_error``. With ``kind="gauss_newton"`` the names begin with
    ``gauss_newton``. Details: all eigenvalues and the spectral density.

    Args:
        subject: what to measure.
        num_eigenvalues, num_probes, lanczos_steps, tolerance, max_iterations, kind, seed: see
            `hessian_spectrum`.
        double: whether to compute in float64.
    """
    with subject.progress(desc="products of the Hessian", unit="") as bar:
        found = hessian_spectrum(
            subject.objective(),
            num_eigenvalues=num_eigenvalues,
            num_probes=num_probes,
            lanczos_steps=lanczos_steps,
            tolerance=tolerance,
            max_iterations=max_iterations,
            kind=kind,
            dtype=torch.float64 if double else None,
            seed=seed,
            progress=bar.update,
        )
    values: dict[str, float] = {}
    for name, end in (("max", found.ends.largest), ("min", found.ends.smallest)):
        if end.eigenvalues:
            values[f"{kind}_{name}"] = end.eigenvalues[0]
            values[f"{kind}_{name}_residual"] = end.residuals[0]
        values[f"{kind}_{name}_converged"] = float(end.converged)
        if not end.converged:
            log.warning(
                "Lanczos did not converge at the %s end of the spectrum to %g: raise "
                "max_iterations or tolerance.",
                *(name, tolerance),
            )
    density = found.density
    values |= {
        f"{kind}_trace": found.trace.value,
        f"{kind}_trace_standard_error": found.trace.standard_error,
        f"{kind}_negative_fraction": density.negative_fraction,
        f"{kind}_negative_fraction_standard_error": density.negative_fraction_error,
    }
    return Reading(values, found.as_dict())


def landscape(
    subject: Subject, *, resolution: int = 15, margin: float = 0.2, line_points: int = 21
) -> Reading:
    """`src.measures.loss_on_plane` and `loss_on_line` of the path of a training.

    Values: ``path_explained_variance``, the part of the path's spread around its end that the
    plane holds, and ``path_barrier``, by how much the loss on the straight line rises above the
    higher of its ends. Details: the plane, the path on it, and the line.

    Args:
        subject: what to measure; it has a path.
        resolution: positions along each axis of the plane.
        margin: of the plane around the path, as a fraction of the path's extent.
        line_points: positions on the line.
    """
    objective = subject.objective()
    points = subject.path() if subject.path is not None else []
    states = [point.state for point in points]
    plane = loss_on_plane(
        objective,
        states,
        resolution=resolution,
        margin=margin,
        progress=lambda steps: subject.progress(steps, desc="loss on the plane"),
    )
    line = loss_on_line(objective, states[0], states[-1], line_points)
    barrier = line.losses.max() - max(line.losses[0], line.losses[-1])
    explained = plane.components.explained_variance
    values = {
        "path_explained_variance": explained.sum().item(),
        "path_barrier": barrier.item(),
    }
    details = {
        "epochs_trained": [point.epochs_trained for point in points],
        "steps": [point.step for point in points],
        "coordinates": plane.components.coordinates.tolist(),
        "explained_variance": explained.tolist(),
        "distances_from_plane": plane.components.distances.tolist(),
        "path_losses": plane.path_losses.tolist(),
        "plane": {"a": plane.a.tolist(), "b": plane.b.tolist(), "losses": plane.losses.tolist()},
        "line": {"positions": line.positions.tolist(), "losses": line.losses.tolist()},
    }
    return Reading(values, details)


def symmetry(subject: Subject, *, tolerance: float = 0.01) -> Reading:
    """`src.measures.symmetry` of every relaxed layer, and what strict layers would change.

    Values: ``symmetric_fraction``, the mean over layers, and ``symmetric_fraction/<layer>``;
    ``projection/<score>``, scores of the test data with every relaxed layer made strict, and
    ``projection_change/<score>``, less those of the network as it is. Details: maps of the group's
    elements by layer. Nothing is found of a network without relaxed layers, which details say.

    Args:
        subject: what to measure; scores are left out where it has none.
        tolerance: differences between elements that count as none, relative to the mean weight.
    """
    if not relaxed_layers(subject.network):
        return Reading({}, {"reason": f"{type(subject.network).__name__} has no relaxed layer"})
    found = symmetry_measures.symmetry(subject.network, subject.score, tolerance=tolerance)
    fractions = {name: layer.symmetric_fraction for name, layer in found.layers.items()}
    values = _with_layers("symmetric_fraction", fmean(fractions.values()), fractions)
    values |= {f"projection/{name}": score.after for name, score in found.scores.items()}
    values |= {
        f"projection_change/{name}": score.difference for name, score in found.scores.items()
    }
    return Reading(values, asdict(found))


def _group_for(network: nn.Module, group: str | Group | None, fallback: str | Group) -> Group:
    if group is not None:
        return make_group(group)
    own = getattr(network, "group", None)
    return own if own is not None and own.order > 1 else make_group(fallback)


def _kinds(subject: Subject, input: str | None, output: str | None) -> dict[str, str]:
    """How inputs and outputs transform: as told, or as the module says."""
    return {
        "input": input or getattr(subject.module, "input_kind", "scalar"),
        "output": output or getattr(subject.module, "output_kind", "invariant"),
    }


def _with_layers(name: str, overall: float, per_layer: dict[str, float]) -> dict[str, float]:
    return {name: overall} | {f"{name}/{layer}": value for layer, value in per_layer.items()}


def _curve(
    network: nn.Module, inputs: list[Tensor], angles: int, options: dict[str, str]
) -> dict[str, list[float]]:
    """Errors of the rotations by multiples of 360° / angles, and the floor of each."""
    errors = equivariance_measures.equivariance_error_per_element(
        network, inputs, f"c{angles}", **options
    )
    floors = interpolation_floor_per_element(
        inputs, f"c{angles}", input=options["input"], interpolation=options["interpolation"]
    )
    return {
        "degrees": [360 * k / angles for k in range(angles)],
        "errors": list(errors),
        "floors": list(floors),
    }


def _lie_name(transformation: str) -> str:
    return "lie_derivative" if transformation == "rotation" else f"lie_derivative_{transformation}"
