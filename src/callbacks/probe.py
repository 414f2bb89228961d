"""Measures of the network on fixed samples, taken along training."""

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

from lightning import LightningModule, Trainer

from src.callbacks.dynamics import DynamicsCallback
from src.callbacks.subset import training_subset, validation_subset
from src.checks import check_choice, check_integer
from src.measures import Reading, Subject, probes

log = logging.getLogger(__name__)

SUBSETS = {"train": training_subset, "val": validation_subset}


class ProbeCallback(DynamicsCallback):
    """Logs what one of `src.measures.probes` finds, as ``dynamics/<name>``.

    It is measured on one fixed subset: the first samples of the validation data, or training
    data at equal distances, without augmentation. Nothing is logged where there are no such data.

    Subclasses name the ``probe``.

    Args:
        every_n_epochs: how many epochs lie between two measurements.
        num_samples: size of the subset (all samples, if there are fewer).
        split: ``"train"`` or ``"val"``.
        options: of the probe.

    Raises:
        TypeError: an option that the probe does not have.
        ValueError: an interval or size that is not a positive integer, or another split.
    """

    probe: Callable[..., Reading]

    def __init__(self, every_n_epochs: int, num_samples: int, split: str, **options: Any) -> None:
        super().__init__(every_n_epochs)
        check_integer("num_samples", num_samples)
        check_choice("split", split, tuple(SUBSETS))
        _check_options(type(self).probe, options)
        self.num_samples = num_samples
        self.split = split
        self.options = options
        self._subset: Sequence[Any] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._subset = None

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        if self._subset is None:
            self._subset = SUBSETS[self.split](trainer, self.num_samples)
            if not self._subset:
                log.info("No %s data: %s is not measured.", self.split, type(self).__name__)
        if not self._subset:
            return {}
        reading = type(self).probe(Subject(pl_module, self._subset), **self.options)
        return {f"dynamics/{name}": value for name, value in reading.values.items()}


class LieDerivative(ProbeCallback):
    """Logs the network's Lie derivative, see `src.measures.probes.lie_derivative`."""

    probe = staticmethod(probes.lie_derivative)

    def __init__(
        self, every_n_epochs: int = 5, num_samples: int = 64, split: str = "val", **options: Any
    ) -> None:
        super().__init__(every_n_epochs, num_samples, split, **options)


class Sharpness(ProbeCallback):
    """Logs the sharpness of the loss, see `src.measures.probes.sharpness`."""

    probe = staticmethod(probes.sharpness)

    def __init__(
        self, every_n_epochs: int = 5, num_samples: int = 128, split: str = "train", **options: Any
    ) -> None:
        super().__init__(every_n_epochs, num_samples, split, **options)


class Hessian(ProbeCallback):
    """Logs both ends and the trace of the loss's Hessian, see `src.measures.probes.hessian`."""

    probe = staticmethod(probes.hessian)

    def __init__(
        self, every_n_epochs: int = 20, num_samples: int = 128, split: str = "train", **options: Any
    ) -> None:
        super().__init__(every_n_epochs, num_samples, split, **options)


def _check_options(probe: Callable[..., Reading], options: dict[str, Any]) -> None:
    known = [name for name in inspect.signature(probe).parameters if name != "subject"]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(
            f"an option of {probe.__name__} must be one of {', '.join(known)}; got "
            f"{', '.join(unknown)}. Correct or remove it in the callback's config."
        )
