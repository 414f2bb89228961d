"""Probes of what relaxation did to a network: how far its layers departed, and what that gains."""

from dataclasses import asdict
from statistics import fmean

from src.measures import projection as projections
from src.measures.subject import Reading, Subject
from src.measures.symmetry import symmetries
from src.models.components.gcnn.relaxation import relaxed_layers


def symmetry(subject: Subject, *, tolerance: float = 0.01) -> Reading:
    """`symmetries` of the relaxed layers, read off their weights.

    Values: ``departure``, the mean over layers, and ``departure/<layer>``, in per cent.
    Details: by layer, maps of the group's elements; or why there is no value.
    """
    found = symmetries(subject.network, tolerance=tolerance)
    if not found:
        return _without_relaxed_layers(subject)
    values = _with_mean("departure", {name: layer.departure for name, layer in found.items()})
    return Reading(values, {"layers": {name: asdict(layer) for name, layer in found.items()}})


def projection(subject: Subject) -> Reading:
    """What changes when every relaxed layer is made strict, see `src.measures.projection`.

    Batch norms get the statistics of the projected weights where the subject has batches for them.

    Values, of the data loss on the batches: ``projected_loss``, with every relaxed layer strict;
    ``projected_loss_change``, that less the loss of the network as it is; ``departure_gradient``,
    the mean over layers, and ``departure_gradient/<layer>``. Of the test data, if the subject has
    any: ``projection/<score>`` and ``projection_change/<score>``. Details: scores, or why there is
    no value.
    """
    if not relaxed_layers(subject.network):
        return _without_relaxed_layers(subject)
    objective = subject.objective()

    def score() -> dict[str, float]:
        return {"loss": objective.value(), **(subject.score() if subject.score else {})}

    found = projections.projection(subject.network, score, objective, subject.reestimated)
    loss, *tested = found.scores.items()
    values = {"projected_loss": loss[1]["after"], "projected_loss_change": loss[1]["difference"]}
    if found.departure_gradients:
        values |= _with_mean("departure_gradient", found.departure_gradients)
    for name, change in tested:
        values[f"projection/{name}"] = change["after"]
        values[f"projection_change/{name}"] = change["difference"]
    return Reading(values, {"scores": found.scores})


def _without_relaxed_layers(subject: Subject) -> Reading:
    return Reading({}, {"reason": f"{type(subject.network).__name__} has no relaxed layer"})


def _with_mean(name: str, per_layer: dict[str, float]) -> dict[str, float]:
    layers = {f"{name}/{layer}": value for layer, value in per_layer.items()}
    return {name: fmean(per_layer.values()), **layers}
