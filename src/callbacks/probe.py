"""Measures of the network, of its weights or on fixed samples, taken along training."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from lightning import LightningModule, Trainer

from src.callbacks.dynamics import DynamicsCallback
from src.callbacks.subset import fixed_subset
from src.checks import check_choice, check_integer
from src.measures import (
    Reading,
    Subject,
    network_of,
    probes,
    relaxed_weight_error,
    relaxed_weight_errors,
)

log = logging.getLogger(__name__)


class RelaxedWeights(DynamicsCallback):
    """Logs how far relaxed layers are from strict ones, see `src.measures.relaxed_weight_error`.

    Names: ``dynamics/relaxed_weight_error`` (mean over layers) and
    ``dynamics/relaxed_weight_error/<layer>``; none for networks without relaxed layers.
    """

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        network = network_of(pl_module)
        errors = relaxed_weight_errors(network)
        if not errors:
            return {}
        values = {f"dynamics/relaxed_weight_error/{name}": e.item() for name, e in errors.items()}
        return {"dynamics/relaxed_weight_error": relaxed_weight_error(network).item(), **values}


class ProbeCallback(DynamicsCallback):
    """Logs what one of `src.measures.probes` finds on a `fixed_subset`, as ``dynamics/<name>``.

    Nothing is logged where there are no such data. Subclasses name the ``probe``.

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
        reading = self.probe(Subject(pl_module, self._subset), **self.options)
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
