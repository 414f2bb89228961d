"""The equivariance error of the network along training."""

import logging

from lightning import LightningModule, Trainer
from torch import Tensor

from src.measures import equivariance_error, equivariance_errors
from src.measures.equivariance import Elements, Input, Output
from src.models.components.checks import check_positive_int
from src.models.components.gcnn.groups import Group, make_group

from .dynamics import DynamicsCallback, inputs_of, network_of
from .subset import validation_subset

log = logging.getLogger(__name__)


class EquivarianceError(DynamicsCallback):
    """Logs the network's equivariance error, see `src.measures.equivariance_error`.

    It is measured on a fixed subset, the first samples of the validation data. Names:
    ``dynamics/equivariance_error`` and ``dynamics/equivariance_error/<layer>``; none where
    there are no validation data.

    Args:
        every_n_epochs: how many epochs lie between two measurements.
        num_samples: size of the subset (all samples, if there are fewer).
        group: the group to measure with; by default the network's own.
        fallback_group: taken where ``group`` is not given and the network has no group, or the
            trivial one.
        per_layer: whether to measure each of the network's blocks too.
        output: how the network's output transforms, see `src.measures.equivariance_error`.
        input: how its input transforms.
        interpolation: used for elements that do not map the pixel grid to itself.
        elements: ``"all"``, or ``"exact"``: only those that map the pixel grid to itself.

    Raises:
        ValueError: an unknown group, or an interval or size that is not a positive integer.
    """

    def __init__(
        self,
        every_n_epochs: int = 5,
        num_samples: int = 128,
        group: str | None = None,
        fallback_group: str = "c4",
        per_layer: bool = True,
        output: Output = "invariant",
        input: Input = "scalar",
        interpolation: str = "bilinear",
        elements: Elements = "all",
    ) -> None:
        super().__init__(every_n_epochs)
        check_positive_int("num_samples", num_samples)
        self.num_samples = num_samples
        self.group = None if group is None else make_group(group)
        self.fallback_group = make_group(fallback_group)
        self.per_layer = per_layer
        self.options = {
            "output": output,
            "input": input,
            "interpolation": interpolation,
            "elements": elements,
        }
        self._subset: list[Tensor] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._subset = None

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        if self._subset is None:
            batches = validation_subset(trainer, self.num_samples)
            self._subset = [inputs_of(pl_module, batch) for batch in batches]
            if not self._subset:
                log.info("No validation data: the equivariance error is not measured.")
        if not self._subset:
            return {}
        network = network_of(pl_module)
        group = self._group_for(network)
        name = "dynamics/equivariance_error"
        if not self.per_layer:
            return {name: equivariance_error(network, self._subset, group, **self.options)}
        overall, per_layer = equivariance_errors(network, self._subset, group, **self.options)
        return {name: overall} | {f"{name}/{layer}": e for layer, e in per_layer.items()}

    def _group_for(self, network: object) -> Group:
        if self.group is not None:
            return self.group
        own = getattr(network, "group", None)
        return own if own is not None and own.order > 1 else self.fallback_group
