"""The subject of a measure, and its reading."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn
from tqdm import tqdm

from src.measures.batch_norm import reestimated_statistics
from src.measures.objective import Objective

NO_PROGRESS = partial(tqdm, disable=True)


class PathPoint(NamedTuple):
    """Parameters and buffers of the objective's network, and when they were stored."""

    state: dict[str, Tensor]
    epochs_trained: float
    step: int


def network_of(module: nn.Module) -> nn.Module:
    """The network inside a Lightning module (its ``net``), without `torch.compile`'s wrapper."""
    network = getattr(module, "net", module)
    return getattr(network, "_orig_mod", network)


@dataclass(frozen=True)
class Subject:
    """A network inside its Lightning module, and the fixed batches that it is measured on.

    Attributes:
        module: with ``net`` (the network), ``network_inputs`` (of a batch), ``objective`` (the data
            loss on batches), ``input_kind`` and ``output_kind`` (how they transform).
        batches: batches as the data module gives them, on the module's device.
        statistics: training batches, augmented as in training, that statistics of batch norm are
            estimated on; none: they stay as they are.
        score: computes the metrics of the test data, where they can be had.
        path: loads states along training, the last one the present one, where they were kept.
        progress: makes a progress bar, with the arguments of `tqdm`; none by default.
    """

    module: nn.Module
    batches: Sequence[Any]
    statistics: Sequence[Any] = ()
    score: Callable[[], Mapping[str, float]] | None = None
    path: Callable[[], list[PathPoint]] = list
    progress: Callable[..., tqdm] = NO_PROGRESS

    @property
    def network(self) -> nn.Module:
        """The network, see `network_of`."""
        return network_of(self.module)

    def inputs(self) -> list[Tensor]:
        """The module's ``network_inputs`` of each batch; without, the batch or its first part."""
        if hasattr(self.module, "network_inputs"):
            return [self.module.network_inputs(batch) for batch in self.batches]
        return [batch if isinstance(batch, Tensor) else batch[0] for batch in self.batches]

    def reestimated(self) -> AbstractContextManager[nn.Module]:
        """The network with `reestimated_statistics`, for whoever takes a measure of it."""
        if not self.statistics:
            return nullcontext(self.network)
        return reestimated_statistics(self.objective().network, self.statistics_inputs())

    def statistics_inputs(self) -> list[Tensor]:
        """Inputs of the objective's network, of the batches for statistics."""
        if not self.statistics:
            return []
        return [inputs for inputs, _ in self.module.objective(self.statistics).data]

    def objective(self) -> Objective:
        """The data loss on the batches."""
        return self.module.objective(self.batches)


@dataclass(frozen=True)
class Reading:
    """The result of a measure.

    Attributes:
        values: figures by name, as they are logged below ``dynamics/``.
        details: the rest, in plain lists and dicts: curves, spectra, maps.
    """

    values: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)
