"""What a stored config may hold, so that a file that someone else made runs no code.

Building calls what `_target_` names with the arguments beside it: `pandas.read_pickle` on a file of
the same author, say. What is composed here is the user's own; what a checkpoint or a run directory
holds may be anybody's.
"""

from collections.abc import Iterator
from inspect import isclass, isfunction
from typing import Any

from hydra.utils import get_object

from src.errors import UserError

# Where classes may be from that a stored config names; which ones, says `_kinds`.
MODULES = (
    *("src", "torch.nn", "torch.optim", "torchvision.transforms", "lightning.Trainer"),
    *("torchmetrics.classification", "torchmetrics.regression", "lightning.fabric.plugins"),
    *("lightning.pytorch.Trainer", "lightning.pytorch.trainer", "lightning.pytorch.callbacks"),
    *("lightning.pytorch.loggers", "lightning.pytorch.plugins", "lightning.pytorch.profilers"),
    "lightning.pytorch.strategies",
)
# Modules whose functions it may name too: they compute, and read, run or write nothing.
MODULES_OF_FUNCTIONS = ("src.data.smoke.plumes", "src.models.components.widths")


def checked(stored: Any, trust: bool, key: str = "") -> Any:
    """Return a stored config, or the part of one at `key`, if it is safe to build from.

    It must hold plain values, without `${...}`, which may read the environment, and each `_target_`
    must name a class that is meant to be built (`_kinds`), of this project or of `MODULES`. `key`
    is where it stands in the config. Where the user vouches for the file (`trust`) nothing is
    checked.

    Raises:
        UserError: names what is refused, and how to allow it.
    """
    problems = [] if trust is True else list(dict.fromkeys(_problems(stored, key)))
    if problems:
        raise UserError(
            "A config that was stored in a file may hold plain values, and name networks, data "
            "modules, optimizers, callbacks and the like of this project, torch or Lightning, "
            "because anything else would run code of whoever made the file; got "
            f"{', '.join(problems)}. If you made the file, or know what it does, add trust=true."
        )
    return stored


def _problems(value: Any, key: str) -> Iterator[str]:
    """What is wrong with a value and all below it."""
    if isinstance(value, dict):
        for name, entry in value.items():
            below = f"{key}.{name}" if key else str(name)
            if name != "_target_":
                yield from _problems(entry, below)
            elif not _may_be_built(entry):
                yield f"{below}={entry}"
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _problems(entry, f"{key}[{index}]")
    elif not isinstance(value, str | int | float | None) or "${" in str(value):
        yield f"{key}={value}"


def _may_be_built(target: Any) -> bool:
    """Whether a target is of the modules and kinds that may be built; others are not imported.

    What is found counts, not the path to it: `torch.nn.modules.linear.torch.hub.load` is no class
    of `torch.nn`.
    """
    if not isinstance(target, str) or not _is_of(MODULES, target):
        return False
    try:
        found = get_object(target)
    except (ImportError, ValueError):
        return False
    if isclass(found):
        return issubclass(found, _kinds()) and _is_of(MODULES, found.__module__)
    return isfunction(found) and found.__module__ in MODULES_OF_FUNCTIONS


def _is_of(modules: tuple[str, ...], path: str) -> bool:
    return f"{path}.".startswith(tuple(f"{module}." for module in modules))


def _kinds() -> tuple[type, ...]:
    """Base classes of what may be built; constructors of these store their arguments."""
    from lightning import Callback, LightningDataModule, Trainer
    from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment, Precision
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.profilers import Profiler
    from lightning.pytorch.strategies import Strategy
    from torch.nn import Module
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from src.models.components.schedules import Schedule

    of_the_trainer = (Callback, Logger, Profiler, Strategy)
    plugins = (CheckpointIO, ClusterEnvironment, Precision)
    built = (Module, LightningDataModule, Optimizer, LRScheduler, Schedule, Trainer)
    return (*built, *of_the_trainer, *plugins)
