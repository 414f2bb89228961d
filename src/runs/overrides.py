"""Command-line overrides, applied on top of a config that was stored earlier."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

# Where, or how loudly, a run goes. None of these, nor keys below them, changes what it computes
# beyond the last digits.
CIRCUMSTANCES = (
    "trainer.accelerator",
    "trainer.devices",
    "trainer.profiler",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "data.num_workers",
    "paths.data_dir",
    "logger",
    "extras",
    "tags",
    "optimized_metric",
)


@dataclass(frozen=True)
class Override:
    """One `key=value` of the command line.

    Attributes:
        text: as typed.
        key: config key or group.
        value: parsed value.
        is_group: whether it chooses a file of a group, e.g. `model=gcnn`.
        changes_structure: whether it adds or removes a key (`+key=1`, `~key`).
    """

    text: str
    key: str
    value: Any
    is_group: bool
    changes_structure: bool


def command_line() -> list[str]:
    """Overrides that this job was started with, as typed."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def in_sweep() -> bool:
    """Whether this is a job of a multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def is_below(key: str, parents: Iterable[str]) -> bool:
    """Whether a dotted key is one of the parents, or lies below one."""
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def parse_overrides(texts: Iterable[str]) -> list[Override]:
    """Parse overrides; groups are told from values by the choices of the composed config."""
    groups = set(HydraConfig.get().runtime.choices) if HydraConfig.initialized() else set()
    texts = list(texts)
    return [
        Override(
            text,
            parsed.key_or_group,
            None if parsed.is_delete() else parsed.value(),
            parsed.key_or_group in groups,
            parsed.is_delete() or parsed.is_add(),
        )
        for text, parsed in zip(texts, OverridesParser.create().parse_overrides(texts))
    ]


def set_value(config: DictConfig, key: str, value: Any) -> None:
    """Set one key of a config, also where the config lacks it."""
    with open_dict(config):
        OmegaConf.update(config, key, value, merge=False)


def relocate(value: Any, old: str, new: str) -> Any:
    """Copy plain dicts and lists, with paths at or below `old` moved to `new`."""
    if isinstance(value, dict):
        return {key: relocate(entry, old, new) for key, entry in value.items()}
    if isinstance(value, list):
        return [relocate(entry, old, new) for entry in value]
    if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
        return new + value[len(old) :]
    return value


def flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested dicts; lists and empty dicts are values."""
    if isinstance(tree, Mapping) and tree:
        for name, branch in tree.items():
            yield from flatten(branch, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, tree
