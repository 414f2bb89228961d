"""How training relaxes a network: what is free, how strongly, and what pulls it back."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from src.checks import check_number
from src.measures.batch_norm import given_statistics, reestimated_statistics, statistics_of
from src.models.components.gcnn.learned import learn_relaxations, renormalise
from src.models.components.gcnn.relaxation import (
    check_relaxation,
    relaxations,
    relaxed_by,
    relaxed_layers,
    restore_relaxations,
    set_relaxation,
)
from src.models.components.schedules import Schedule, TriangleSchedule
from src.models.dual_ascent import DualAscent
from src.models.penalties import chosen_group, output_penalty, weight_penalty

LEARNED = "learned"
STATISTICS_SAMPLES = 640  # of training, for batch norms of the network made strict


class RelaxedModule(LightningModule):
    r"""A network whose layers are f_eq + theta f_free, trained on a data loss and what pulls back.

    .. math:: L = L_{\text{data}} + \alpha \, \text{penalty} \; \left[ + \sum_i \lambda_i \theta_i
              \right]

    Relaxed layers use w_bar + theta (w - w_bar) in place of their weights w, see `Relaxable`, in
    the penalty too. Alpha and theta may be schedules: functions of the number of optimizer steps
    taken over that of the whole run. A learned theta is one parameter per layer, without weight
    decay, 1 at the start and of either sign; after each optimizer step `renormalise` moves into it
    what else would grow beside it. `DualAscent` adds its multipliers.

    Networks with a `TriangleSchedule` of theta are validated at theta = 0 and stored so. Others are
    stored with the theta they have. Relaxed layers are tested twice: ``test/<score>`` as trained,
    ``test/strict/<score>`` at theta = 0, with statistics of batch norm estimated anew on training
    samples, if the data module has ``sample_training``; the same scores where theta is 0.

    Logged per epoch: ``train/penalty``, the penalty without alpha, of the weights that the epoch
    ended with; of outputs the mean over the epoch. ``train/alpha`` and ``train/relaxation``, the
    values an epoch ended with, are logged for schedules alone.

    Args:
        net: the network.
        alpha: weight of the penalty, at least 0: a number, or a `Schedule` of it.
        relaxation: theta, from 0 (strict) to 1 (free): a number, a `Schedule` of it, or None:
            free, without any cost; or ``"learned"``, or a `DualAscent`.
        penalty: ``"l1"`` (`relaxation_penalty`), ``"l2"`` (`departure_penalty`), ``"projection"``
            (`projection_penalty`) or ``"output"`` (`output_penalty`).
        penalty_group: name of the group of the last two; None: the network's own, or else C4.
            Layers on a group have their own in the projection penalty.

    Raises:
        ValueError: for values out of range, and for a choice that does not apply to the network.
    """

    input_kind: str
    output_kind: str

    def __init__(
        self,
        net: nn.Module,
        alpha: float | Schedule = 0.0,
        relaxation: float | str | Schedule | DualAscent | None = None,
        penalty: str = "l1",
        penalty_group: str | None = None,
    ) -> None:
        super().__init__()
        for number in _extremes(alpha):
            fix = "model.alpha=0 for no penalty, e.g. model.alpha=1e-5, or a schedule of numbers"
            check_number("alpha", number, 0, fix=fix)
        self.learns_relaxation = relaxation == LEARNED or isinstance(relaxation, DualAscent)
        for number in () if self.learns_relaxation else _extremes(relaxation):
            check_relaxation(number)
        counts = any(number > 0 for number in _extremes(alpha))
        self.penalty_group = chosen_group(net, penalty, penalty_group, counts)
        self.net = net
        self.alpha_schedule = alpha if isinstance(alpha, Schedule) else None
        self.alpha = alpha
        self.relaxation = relaxation
        self.penalty = penalty
        self._total_steps: float = 1
        self._has_schedules = any(isinstance(v, Schedule) for v in (alpha, relaxation))
        self._thetas: dict[str, float] = {}  # while the network is validated at others
        self._strict_statistics: dict[str, Tensor] | None = None  # None: not tested as strict
        if relaxation == LEARNED:
            learn_relaxations(net)
        elif isinstance(relaxation, DualAscent):
            relaxation.start(net)
        self._follow_schedules(0.0)

    def setup(self, stage: str) -> None:
        """Refuse to go on from a checkpoint with a theta unawares."""
        if stage != "fit":
            return
        thetas = relaxations(self.net)
        if self.relaxation is None and thetas:  # loaded: the run must not start strict unawares
            raise ValueError(
                "`relaxation` must say how a network goes on that comes from a checkpoint with "
                f"one; got null, and {next(iter(thetas.values())):g} in the checkpoint. Use "
                "model.relaxation=1.0 for free layers, or the checkpoint's number."
            )
        self._follow_schedules(0.0)  # a resumed run's theta comes with the checkpoint after this

    def on_train_start(self) -> None:
        """Set alpha and theta to their values at the step where the run stands."""
        self._total_steps = self.trainer.estimated_stepping_batches
        if self._has_schedules and not 1 <= self._total_steps < math.inf:
            raise ValueError(
                "a schedule, such as of `alpha`, needs a run of known length; got one of "
                f"{self._total_steps} steps. Set trainer.max_epochs or trainer.max_steps."
            )
        self._follow_schedules(self._progress())

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Take a step; then keep what is free within bounds, and let multipliers ascend."""
        super().optimizer_step(*arguments, **options)
        if self.learns_relaxation:
            renormalise(self.net)
        if isinstance(self.relaxation, DualAscent):
            self.relaxation.ascend(self.net)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Set alpha and theta to their values at the next step."""
        if self._has_schedules:
            self._follow_schedules(self._progress())

    def on_train_epoch_end(self) -> None:
        """Log the penalty of the weights that the epoch ended with, and values of schedules."""
        if self.penalty != "output":
            self.log("train/penalty", self._weight_penalty().detach(), sync_dist=True)
        if self.alpha_schedule is not None:
            self.log("train/alpha", self.alpha, sync_dist=True)
        if isinstance(self.relaxation, Schedule):
            self.log("train/relaxation", self.relaxation(self._progress()), sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        """Make a network strict that is to be validated so."""
        if isinstance(self.relaxation, TriangleSchedule):
            self._thetas = relaxations(self.net)
            set_relaxation(self.net, 0.0)

    def on_validation_epoch_end(self) -> None:
        """Give it its theta back."""
        if isinstance(self.relaxation, TriangleSchedule):
            restore_relaxations(self.net, self._thetas)

    def on_test_start(self) -> None:
        """Prepare the network, if it has relaxed layers, to be tested as a strict one too."""
        thetas = [layer.relaxation for layer in relaxed_layers(self.net).values()]
        self._strict_statistics = {} if thetas else None
        if any(theta is None or theta != 0 for theta in thetas):
            self._strict_statistics = self._statistics_when_strict()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        thetas = relaxations(self.net)
        if isinstance(self.relaxation, TriangleSchedule):
            thetas = dict.fromkeys(thetas, 0.0)
        checkpoint["relaxation"] = thetas

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore theta, where it is neither a number nor among the weights."""
        if self.relaxation is None or isinstance(self.relaxation, Schedule):
            restore_relaxations(self.net, checkpoint.get("relaxation", {}))

    def _progress(self) -> float:
        """Fraction of the run's optimizer steps that were taken."""
        return self.trainer.global_step / self._total_steps

    def _follow_schedules(self, progress: float) -> None:
        """Set alpha and theta to their values at this progress."""
        if self.alpha_schedule is not None:
            self.alpha = self.alpha_schedule(progress)
        theta = self.relaxation
        if theta is not None and not self.learns_relaxation:
            set_relaxation(self.net, theta(progress) if isinstance(theta, Schedule) else theta)

    def _penalised(
        self,
        data_loss: Tensor,
        f: Callable[[Tensor], Tensor] | None = None,
        inputs: Tensor | None = None,
        outputs: Tensor | None = None,
    ) -> Tensor:
        """L, for a batch of inputs that the network, or a rollout, f, maps to the outputs."""
        loss = data_loss
        if self.alpha != 0:
            if self.penalty == "output":
                kinds = self.input_kind, self.output_kind
                penalty = output_penalty(f, inputs, outputs, self.penalty_group, *kinds)
                self._log_mean("train/penalty", penalty, len(inputs))
            else:
                penalty = self._weight_penalty()
            loss = loss + self.alpha * penalty
        if isinstance(self.relaxation, DualAscent):
            loss = loss + self.relaxation(self.net)
        return loss

    def _weight_penalty(self) -> Tensor:
        kinds = getattr(self, "input_kind", None), getattr(self, "output_kind", None)
        return weight_penalty(self.net, self.penalty, self.penalty_group, *kinds)

    def _tested(self) -> Iterator[str]:
        """Starts of the names of test scores: as trained, then, if relaxed, while made strict."""
        yield "test"
        if self._strict_statistics is not None:
            with relaxed_by(self.net, 0.0), given_statistics(self, self._strict_statistics):
                yield "test/strict"

    def _statistics_when_strict(self) -> dict[str, Tensor]:
        """Statistics of batch norms at theta = 0, by name; none without batch norms or samples."""
        sample = getattr(self.trainer.datamodule, "sample_training", None)
        if sample is None or not statistics_of(self):
            return {}
        convert, move = self.trainer.precision_plugin.convert_input, self.trainer.strategy
        with torch.inference_mode(False), torch.no_grad(), relaxed_by(self.net, 0.0):
            batches = [move.batch_to_device(convert(b)) for b in sample(STATISTICS_SAMPLES)]
            objective = self.objective(batches)
            inputs = [given for given, _ in objective.data]
            with reestimated_statistics(objective.network, inputs):
                return {name: found.clone() for name, found in statistics_of(self).items()}

    def _log_mean(self, name: str, value: Tensor, num_samples: int) -> None:
        """Log the mean of a batch, weighted by its number of samples over epoch and processes."""
        self.log(
            name,
            value.detach(),
            on_step=False,
            on_epoch=True,
            prog_bar=name.endswith("/loss"),
            batch_size=float(num_samples),  # Lightning's mean over processes would be rounded
            sync_dist=True,
        )


def _extremes(value: Any) -> tuple:
    """The numbers that a schedule lies between; a number itself."""
    return value.extremes() if isinstance(value, Schedule) else (value,)
