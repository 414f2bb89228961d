"""Training and evaluation of a network that forecasts velocity fields."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanSquaredError

from src.checks import check_choice, check_integer, check_number, wrong
from src.measures import ForecastScores, Objective
from src.models.base_module import BaseModule
from src.models.components.gcnn.caching import kernels_built_once
from src.models.components.rollout import Rollout, roll_out
from src.models.losses import LOSSES
from src.models.shapes import check_shapes


class ForecastingModule(BaseModule):
    r"""A network trained on autoregressive forecasts plus a penalty, see `RelaxedModule`.

    With the first n = ``num_inputs`` frames of a window, the network f is applied once per
    frame to forecast, to the last n frames that it has seen or made itself:

    .. math:: \hat v_t = f(\hat v_{t-n}, \dots, \hat v_{t-1}), \quad
              \hat v_t = v_t \text{ for } t < n

    .. math:: L = \mathrm{mean}_{b,\, t,\, c,\, x} \frac{(\hat v - v)^2}{s^2}
              + \alpha \, \text{penalty}

    or, with ``loss="relative"``, `RelativeLoss` as the first term; s is the buffer
    ``velocity_scale``, in which the network works: inputs are divided by it and outputs
    multiplied. When training starts it is set to the data module's ``velocity_scale`` (the root
    mean square of the training frames); checkpoints keep it.

    Batches are windows ``[B, T, 2, H, W]`` in cells per time unit; T - n frames are forecast. Where
    the network's ``field_type`` is ``"vector+scalar"`` frames have a third channel, the density of
    the smoke, with the scale ``density_scale``. It is forecast too and part of the losses; all
    scores are of the velocity alone, so that they compare with those of networks without it.

    Logged per epoch, every sample counting the same also where batches differ in size:

    - ``train/loss`` (L) and ``train/mse`` or ``train/relative``, its first term, both while the
      weights move, with noise and over the steps then trained;
    - ``val/loss``, the first term of L alone, so that networks compare whatever their alpha, and
      ``val/rmse``;
    - ``test/<score>``, all of `src.measures.ForecastScores` on the first test loader, and
      ``test/<name>/<score>`` on the others, named by ``test_names`` of the data module, as in
      ``test/domain/rmse``. RMSE, energy and divergence are in cells and time units.

    Args:
        net: maps [B, 2 n, H, W], channels ordered (time, component), to [B, 2, H, W]; 3 for 2
            with the density.
        num_inputs: n, as in the data module.
        teacher_forcing: whether the network gets the true frames, not its own, in training.
        loss: ``"mse"`` or ``"relative"``, the first term of L.
        input_noise: standard deviation, in units of s, of normal noise on the true frames that the
            network is given in training; errors are those of frames without noise.
        one_step_until: fraction of training in which one step is forecast; after it all are.
        training: the other arguments of `BaseModule`.

    Reference: Wang, Walters, Yu, Approximately equivariant networks for imperfectly symmetric
    dynamics, ICML 2022.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        *,
        num_inputs: int,
        teacher_forcing: bool = False,
        loss: str = "mse",
        input_noise: float = 0.0,
        one_step_until: float = 0.0,
        **training: Any,
    ) -> None:
        super().__init__(net, optimizer, scheduler, **training)
        check_integer("num_inputs", num_inputs)
        check_choice("loss", loss, tuple(LOSSES))
        check_number("input_noise", input_noise, 0, fix="0.0 for none, e.g. 0.01")
        check_number("one_step_until", one_step_until, 0, 1, fix="0.0 to train all steps at once")
        # how a group acts on frames and forecasts
        self.input_kind = self.output_kind = getattr(net, "field_type", "vector")
        self.num_inputs = num_inputs
        self.teacher_forcing = teacher_forcing
        self.loss, self.data_loss = loss, LOSSES[loss]()
        self.input_noise, self.one_step_until = input_noise, one_step_until
        self._has_schedules |= one_step_until > 0
        has_density = self.input_kind == "vector+scalar"
        self.scales = ("velocity_scale", "density_scale") if has_density else ("velocity_scale",)
        for name in self.scales:
            self.register_buffer(name, torch.ones(()))
        names = ("val/rmse", "val/rmse_reestimated")
        self.errors = nn.ModuleDict({name: MeanSquaredError(squared=False) for name in names})
        self._scores: dict[str, ForecastScores] = {}

    def check_data(self, datamodule: LightningDataModule) -> None:
        """Raise ValueError unless the network takes the data's frames and gives such a frame."""
        shape = self.input_shape(datamodule)
        if shape is not None:
            outputs = datamodule.image_shape
            keys = "model.num_inputs, model.net.grid_size and model.net.density"
            check_shapes(self.net, shape, outputs, keys)

    def input_shape(self, datamodule: LightningDataModule) -> tuple[int, ...] | None:
        """Shape of the frames that one forecast is made from; None where the data do not say."""
        shape = getattr(datamodule, "image_shape", None)
        return None if shape is None else (shape[0] * self.num_inputs, *shape[1:])

    def setup(self, stage: str) -> None:
        """Take over the scale of the training data; compile the network when asked to."""
        super().setup(stage)
        datamodule = self.trainer.datamodule
        if datamodule is None:
            return
        given = getattr(datamodule, "num_inputs", self.num_inputs)
        if given != self.num_inputs:
            raise ValueError(
                "`num_inputs` of the model must be that of the data; got "
                f"model.num_inputs={self.num_inputs} and data.num_inputs={given}. Set both to the "
                "same number of frames."
            )
        if stage == "fit":
            for name in self.scales:
                scale = getattr(datamodule, name, None)
                if not isinstance(scale, int | float) or not 0 < scale < math.inf:
                    rule, fix = "the RMS of the training frames, above 0", "data=smoke_level"
                    raise ValueError(wrong(name, rule, scale, fix))
                getattr(self, name).fill_(scale)

    @property
    def scale(self) -> Tensor:
        """What the channels of a frame are divided by: s, or [3, 1, 1] with the density."""
        if len(self.scales) == 1:
            return self.velocity_scale
        return torch.stack([self.velocity_scale] * 2 + [self.density_scale])[:, None, None]

    def network_inputs(self, batch: Tensor) -> Tensor:
        """The first frames of windows, as the network gets them: ``[B, 2 num_inputs, H, W]``."""
        self._check_window(batch)
        return (batch[:, : self.num_inputs] / self.scale).flatten(1, 2)

    def objective(self, batches: Sequence[Tensor]) -> Objective:
        """The first term of L on these windows, with the network's own forecasts as inputs."""
        data = []
        for window in batches:
            self._check_window(window)
            frames = window / self.scale
            data.append((frames[:, : self.num_inputs], frames[:, self.num_inputs :]))
        horizon = data[0][1].shape[1] if data else 1
        return Objective(Rollout(self.net, horizon), self.data_loss, data)

    def forecast(self, window: Tensor) -> Tensor:
        """[B, T, 2, H, W] -> [B, T - num_inputs, 2, H, W], from the first frames alone."""
        self._check_window(window)
        return self._roll_out(window / self.scale) * self.scale

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self._check_window(batch)
        if self.one_step_until > 0 and self._progress() < self.one_step_until:
            batch = batch[:, : self.num_inputs + 1]
        frames = given = batch / self.scale
        if self.input_noise > 0:  # of the global generator, which each epoch seeds
            given = frames + self.input_noise * torch.randn_like(frames)
        f = partial(self._roll_out, teacher_forcing=self.teacher_forcing)
        forecast = f(given)
        error = self.data_loss(forecast, frames[:, self.num_inputs :])
        loss = self._penalised(error, f, given, forecast)
        self._log_mean(f"train/{self.loss}", error, len(batch))
        self._log_mean("train/loss", loss, len(batch))
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log_validation(batch)

    def log_validation(self, batch: Tensor, suffix: str = "") -> None:
        """Log the scores of validation of windows, under their names with this suffix."""
        name = f"val/rmse{suffix}"
        forecast, truth = self.forecast(batch), batch[:, self.num_inputs :]
        velocities = (v.detach()[:, :, :2].float().contiguous() for v in (forecast, truth))
        self.errors[name].update(*velocities)
        self.log(name, self.errors[name], on_step=False, on_epoch=True, prog_bar=not suffix)
        loss = self.data_loss(forecast / self.scale, truth / self.scale)
        self._log_mean(f"val/loss{suffix}", loss, len(batch))

    def on_test_epoch_start(self) -> None:
        self._scores.clear()

    def test_step(
        self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor]:
        """Add to the scores of a set; return its forecasts and what they were made from."""
        names = getattr(self.trainer.datamodule, "test_names", ())
        parts = {i: f"/{name}" for i, name in enumerate(names)} | {0: ""}
        part = parts.get(dataloader_idx, f"/loader_{dataloader_idx}")
        known, truth = batch[:, : self.num_inputs], batch[:, self.num_inputs :]
        found = {}
        for start in self._tested():
            if start + part not in self._scores:
                self._scores[start + part] = ForecastScores().to(batch.device)
            found[start] = self.forecast(batch).detach()
            velocities = (frames[:, :, :2] for frames in (found[start], truth, known))
            self._scores[start + part].update(*velocities)
        return {"forecast": found["test"], "truth": truth, "known": known}

    def on_test_epoch_end(self) -> None:
        for prefix, scores in self._scores.items():
            values = {f"{prefix}/{name}": value for name, value in scores.compute().items()}
            self.log_dict(values, sync_dist=True)

    def _roll_out(self, frames: Tensor, teacher_forcing: bool = False) -> Tensor:
        """`forecast`, in units of the scale."""
        known, truth = frames.split((self.num_inputs, frames.shape[1] - self.num_inputs), 1)

        def step(inputs: Tensor) -> Tensor:
            output = self(inputs)
            if output.shape != truth[:, 0].shape:
                raise ValueError(
                    f"the network must give the next frame, [batch, {truth.shape[2]}, height, "
                    f"width] = {list(truth[:, 0].shape)}; got {list(output.shape)}. Use a network "
                    f"of {truth.shape[2]} output channels that keeps height and width."
                )
            return output

        with kernels_built_once(self.net):
            return roll_out(step, known, truth.shape[1], truth if teacher_forcing else None)

    def _check_window(self, window: Tensor) -> None:
        channels = len(self.scales) + 1
        if not isinstance(window, Tensor) or window.ndim != 5 or window.shape[2] != channels:
            got = list(window.shape) if isinstance(window, Tensor) else type(window).__name__
            raise ValueError(
                f"a batch must be windows of velocity frames, [batch, time, {channels}, height, "
                f"width]; got {got}. Use a data module that makes such windows, such as "
                "data=smoke_level, and set model.net.density as data.density."
            )
        if window.shape[1] <= self.num_inputs:
            raise ValueError(
                "a window must be longer than `num_inputs`, so that there is a frame to forecast; "
                f"got windows of {window.shape[1]} frames and num_inputs={self.num_inputs}. Use "
                f"windows of at least {self.num_inputs + 1} frames, or fewer inputs."
            )
