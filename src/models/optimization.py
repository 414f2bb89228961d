"""Optimizer and learning-rate schedule of a network, made from what its config gives."""

import inspect
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from src.checks import check_number, wrong
from src.models.components.gcnn.relaxation import relaxed_layers

# parameters of layers that are only relaxed ones'
DEPARTURES = ("relaxed_weights", "group_biases", "kernel_biases", "free_kernel")
FACTOR = "relaxed_lr_factor"


class CosineLR(LRScheduler):
    r"""Lowers the learning rate to zero over the whole training, along half a cosine.

    .. math:: \eta(k) = \eta_0\, \frac{k + 1}{m + 1} \text{ for } k < m, \qquad
              \eta_0\, \frac{1 + \cos(\pi (k - m) / (n - m))}{2} \text{ after it}

    after k of n steps, of which the first m warm up. Unlike torch's `CosineAnnealingLR` it depends
    on k alone, so that a run continued for more steps follows the longer curve.

    Args:
        optimizer: optimizer whose learning rates at the start are eta_0.
        total_steps: n.
        warmup: m / n, from 0 to below 1.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.0) -> None:
        check_number("warmup", warmup, 0, 0.99, fix="0.05, or 0.0 for none")
        self.total_steps, self.warmup = total_steps, warmup
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """Learning rate of each parameter group."""
        progress, warmup = self.last_epoch / self.total_steps, self.warmup
        if progress < warmup:
            factor = (self.last_epoch + 1) / (warmup * self.total_steps + 1)
        else:
            factor = (1 + math.cos(math.pi * min((progress - warmup) / (1 - warmup), 1))) / 2
        return [factor * rate for rate in self.base_lrs]


def make_optimizer(network: nn.Module, make: Callable[..., Optimizer]) -> Optimizer:
    """Call `make` with the network's parameters.

    Where it holds ``relaxed_lr_factor``, parameters that only relaxed layers have, such as relaxed
    weights, are a parameter group of their own, with the learning rate times this number. Learned
    thetas are another, without weight decay.
    """
    held = dict(make.keywords) if isinstance(make, partial) else {}
    factor = held.pop(FACTOR, 1.0)
    with _as_one_message("optimizer"):
        check_number(FACTOR, factor, 0, fix=f"model.optimizer.{FACTOR}=1.0")
        make = partial(make.func, *make.args, **held) if isinstance(make, partial) else make
        layers = relaxed_layers(network).values()
        departures = [
            p for layer in layers for n in DEPARTURES if (p := getattr(layer, n, None)) is not None
        ]
        thetas = [p for layer in layers if isinstance(p := layer.relaxation, nn.Parameter)]
        groups = [{"params": thetas, "weight_decay": 0.0}] if thetas else []
        if factor != 1 and departures:
            groups.append({"params": departures, FACTOR: factor})
        if not groups:
            return make(network.parameters())
        own = {id(p) for group in groups for p in group["params"]}
        others = [p for p in network.parameters() if id(p) not in own]
        optimizer = make([{"params": others}, *groups])
        for group in optimizer.param_groups:
            group["lr"] *= group.get(FACTOR, 1.0)
    return optimizer


def make_scheduler(
    make: Callable[..., LRScheduler],
    optimizer: Optimizer,
    total_steps: float,
    interval: str | None,
    validates: bool,
) -> dict[str, Any]:
    """Call `make` with the optimizer, for Lightning: see `LightningModule.configure_optimizers`.

    A schedule that asks for ``total_steps`` gets them, and by default advances each step, others
    each epoch; ``max_lr`` is that of the first parameter group. One that follows a metric is left
    to `follow_metric`.
    """
    held = make.keywords if isinstance(make, partial) else {}
    given = {}
    with _as_one_message("scheduler"):
        takes = inspect.signature(make.func if isinstance(make, partial) else make).parameters
        counts_steps = "total_steps" in takes
        if counts_steps and all(held.get(name) is None for name in ("total_steps", "epochs")):
            given["total_steps"] = total_steps
        factors = [group.get(FACTOR, 1.0) for group in optimizer.param_groups]
        if len(factors) > 1 and isinstance(held.get("max_lr"), int | float):
            given["max_lr"] = [held["max_lr"] * factor for factor in factors]
        scheduler = make(optimizer, **given)
    settings = {"scheduler": scheduler, "monitor": "val/loss"}
    if isinstance(scheduler, ReduceLROnPlateau):  # Lightning would ask in epochs without validation
        if not validates:
            raise ValueError(_without_metric(settings["monitor"]))
        return settings | {"interval": "epoch", "frequency": sys.maxsize}
    return settings | {"interval": interval or ("step" if counts_steps else "epoch")}


def follow_metric(configs: Iterable[Any], metrics: Mapping[str, Tensor]) -> None:
    """After a validation, let the trainer's schedules that follow a metric take a step.

    Raises:
        ValueError: when the metric is not logged.
    """
    for config in configs:
        if isinstance(config.scheduler, ReduceLROnPlateau):
            if config.monitor not in metrics:
                raise ValueError(_without_metric(config.monitor))
            config.scheduler.step(metrics[config.monitor])


def _without_metric(name: str) -> str:
    rule = f"one that needs no metric, where {name} is not measured"
    return wrong("model.scheduler", rule, "one that follows it", "model/scheduler=none")


@contextmanager
def _as_one_message(key: str) -> Iterator[None]:
    """Say which part of the config it was that could not be built."""
    try:
        yield
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"`model.{key}` must be a {key} with the values that it takes, and fit the rest of "
            f"`model`; got: {error}. Choose one with model/{key}=<name>, as listed by --help; a "
            f"value that is left over from another one goes with ~model.{key}.<value>."
        ) from error
