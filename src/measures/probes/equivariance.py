"""Probes of the function that a network computes: how far it is from equivariant."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from src.measures.actions import FALLBACK_GROUP, group_to_use
from src.measures.equivariance import equivariance_errors
from src.measures.lie_derivative import lie_derivatives
from src.measures.published_lie_derivative import published_lie_derivative
from src.measures.subject import Reading, Subject
from src.models.components.gcnn.groups import Group


def equivariance_error(
    subject: Subject,
    *,
    group: str | Group | None = None,
    fallback_group: str | Group = FALLBACK_GROUP,
    per_layer: bool = True,
    output: str | None = None,
    input: str | None = None,
    interpolation: str = "bilinear",
    elements: str = "all",
    angles: int | None = None,
) -> Reading:
    """`equivariance_errors` of the network and of its layers.

    Values: ``equivariance_error`` and ``equivariance_error/<layer>``.

    Args:
        group: the group to measure with; None: the network's own.
        fallback_group: the group where the network has none, or the trivial one.
        angles: adds to the details a curve of this many angles, multiples of 360° / angles.
    """
    (network, kinds), inputs = _measured(subject, input, output), subject.inputs()
    group = group_to_use(network, group, fallback_group)
    options = kinds | {"interpolation": interpolation}
    asked = options | {"elements": elements, "per_layer": per_layer}
    found = equivariance_errors(network, inputs, group, **asked)
    values = _with_layers("equivariance_error", found.overall, found.per_layer)
    details = {"group": group.name}
    if angles is not None:
        curve = equivariance_errors(network, inputs, f"c{angles}", per_layer=False, **options)
        details["angles"] = {
            "degrees": [360 * k / angles for k in range(angles)],
            "errors": [0.0, *curve.per_element.values()],
        }
    return Reading(values, details)


def lie_derivative(
    subject: Subject,
    *,
    transformations: Sequence[str] = ("rotation", "translation_x", "translation_y"),
    per_layer: bool = True,
    output: str | None = None,
    input: str | None = None,
    offset: float = 1e-5,
    published: bool = False,
) -> Reading:
    """`lie_derivatives` under every transformation.

    Values, in the output's unit: per radian of rotation ``lie_derivative`` and
    ``lie_derivative/<layer>`` (contributions of the layers), per pixel of translation
    ``lie_derivative_translation_x[/<layer>]`` and ``..._y``; each with ``..._relative``, to the
    RMS of the output.

    Args:
        published: adds ``..._published`` where outputs are logits, see `published_lie_derivative`.
    """
    values, inputs = {}, subject.inputs()
    network, kinds = _measured(subject, input, output)
    options = kinds | {"per_layer": per_layer, "offset": offset}
    for transformation in transformations:
        name = "lie_derivative" + ("" if transformation == "rotation" else f"_{transformation}")
        found = lie_derivatives(network, inputs, transformation, **options)
        values |= _with_layers(name, found.overall, found.per_layer)
        values[f"{name}_relative"] = found.relative
        if published and kinds == {"input": "scalar", "output": "invariant"}:
            values[f"{name}_published"] = published_lie_derivative(
                subject.network, inputs, transformation
            )
    return Reading(values)


class VelocityOf(nn.Module):
    """A network without the density that it forecasts too, so that errors of velocities compare."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.blocks = network, getattr(network, "blocks", None)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[:, :2]


def _measured(
    subject: Subject, input: str | None, output: str | None
) -> tuple[nn.Module, dict[str, Any]]:
    """The network; how inputs and outputs transform: as given, or as the module says."""
    input = input or getattr(subject.module, "input_kind", "scalar")
    output = output or getattr(subject.module, "output_kind", "invariant")
    if output == "vector+scalar":
        return VelocityOf(subject.network), {"input": input, "output": "vector"}
    return subject.network, {"input": input, "output": output}


def _with_layers(name: str, overall: float, per_layer: dict[str, float]) -> dict[str, float]:
    return {name: overall} | {f"{name}/{layer}": value for layer, value in per_layer.items()}
