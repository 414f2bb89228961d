"""Measures of the network, of its weights or on fixed samples, taken along training."""

import logging
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from lightning import LightningModule, Trainer

from src.callbacks.dynamics import DynamicsCallback
from src.callbacks.reestimated import reestimated
from src.callbacks.subset import fixed_subset
from src.checks import check_choice, check_integer
from src.measures import Reading, Subject, network_of, probes, relaxed_weight_errors
from src.measures.context import single_precision
from src.measures.symmetry import departure
from src.models.components.gcnn.relaxation import relaxations, relaxed_layers
from src.models.dual_ascent import DualAscent

log = logging.getLogger(__name__)


class RelaxedWeights(DynamicsCallback):
    """Logs how far relaxed layers are from strict ones, read off their weights.

    Names: ``dynamics/relaxed_weight_error``, see `src.measures.relaxed_weight_error`, and
    ``dynamics/departure``, see `src.measures.symmetry.departure`; where they are learned,
    ``dynamics/theta`` and ``dynamics/multiplier`` (of `DualAscent`). All are means over layers, of
    absolute values, since thetas of either sign would cancel; and all with ``/<layer>``, signed.
    None for networks without relaxed layers.
    """

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        values = {}
        with single_precision(network_of(pl_module)) as network:
            errors = {name: error.item() for name, error in relaxed_weight_errors(network).items()}
            departures = {name: departure(layer) for name, layer in relaxed_layers(network).items()}
            measures = {"relaxed_weight_error": errors, "departure": departures}
            if getattr(pl_module, "learns_relaxation", False):
                measures["theta"] = relaxations(network)
            if isinstance(ascent := getattr(pl_module, "relaxation", None), DualAscent):
                measures["multiplier"] = ascent.named_multipliers(network)
        for measure, found in measures.items() if errors else ():
            values[f"dynamics/{measure}"] = fmean(map(abs, found.values()))
            values |= {f"dynamics/{measure}/{name}": value for name, value in found.items()}
        return values


class ProbeCallback(DynamicsCallback):
    """Logs what one of `src.measures.probes` finds on a `fixed_subset`, as ``dynamics/<name>``.

    Measured with the statistics of batch norm of the trainer's `ReestimatedStatistics`, if it has
    one. Nothing is logged where there are no such data. Subclasses name the ``probe``.

    Args:
        split: ``"train"`` or ``"val"``.
        every_n_epochs: how many epochs lie between two measurements, a positive integer.
        num_samples: size of the subset, a positive integer (all samples, if there are fewer).
        options: options of the probe.
    """

    probe: Callable[..., Reading]

    def __init__(
        self, split: str, every_n_epochs: int = 5, num_samples: int = 128, **options: Any
    ) -> None:
        super().__init__(every_n_epochs)
        check_integer("num_samples", num_samples)
        check_choice("split", split, ("train", "val"))
        self.num_samples = num_samples
        self.split = split
        self.options = options
        self._subset: Sequence[Any] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._subset = None

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        if self._subset is None:
            self._subset = fixed_subset(trainer, self.split, self.num_samples)
            if not self._subset:
                log.info("No %s data: %s is not measured.", self.split, type(self).__name__)
        if not self._subset:
            return {}
        with single_precision(network_of(pl_module)), reestimated(trainer, pl_module) as statistics:
            subject = Subject(pl_module, self._subset, statistics=statistics)
            reading = self.probe(subject, **self.options)
        return {f"dynamics/{name}": value for name, value in reading.values.items()}


class EquivarianceError(ProbeCallback):
    """Logs the network's equivariance error, see `src.measures.probes.equivariance_error`."""

    probe = staticmethod(probes.equivariance_error)


class LieDerivative(ProbeCallback):
    """Logs the network's Lie derivative, see `src.measures.probes.lie_derivative`."""

    probe = staticmethod(probes.lie_derivative)


class Sharpness(ProbeCallback):
    """Logs the sharpness of the loss, see `src.measures.probes.sharpness`."""

    probe = staticmethod(probes.sharpness)


class Hessian(ProbeCallback):
    """Logs both ends and the trace of the loss's Hessian, see `src.measures.probes.hessian`."""

    probe = staticmethod(probes.hessian)


class Projection(ProbeCallback):
    """Logs what strict layers would change, see `src.measures.probes.projection`."""

    probe = staticmethod(probes.projection)
