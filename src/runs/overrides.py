"""Command-line overrides: read, written, and applied to a config that was stored earlier."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from src.runs.trust import checked

# Where, or how loudly, a run goes. None of these, nor keys below them, changes what it computes but
# for rounding.
CIRCUMSTANCES = (
    *("trainer.accelerator", "trainer.devices", "trainer.deterministic", "trainer.profiler"),
    *("trainer.enable_progress_bar", "trainer.log_every_n_steps"),
    *("data.num_workers", "paths.data_dir", "logger", "extras", "tags", "optimized_metric"),
    "trust",
)


def command_line() -> list[str]:
    """Overrides that this job was started with, as typed."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def override_text(key: str, value: Any) -> str:
    """`key=value` as Hydra reads it back: text is quoted where it would be read otherwise."""
    if value is None or isinstance(value, bool):
        return f"{key}={'null' if value is None else str(value).lower()}"
    if not isinstance(value, str):
        return f"{key}={value!r}"
    reserved = value.lower() in ("null", "true", "false", "nan", "inf")
    if re.fullmatch(r"[A-Za-z_/.][\w/.-]*", value, re.ASCII) and not reserved:
        return f"{key}={value}"
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


def shell_command(script: str, **values: Any) -> str:
    """A line for a shell that runs an entry point with values of config keys, such as `resume`."""
    texts = (override_text(key, str(value)) for key, value in values.items())
    return shlex.join(["python", f"src/{script}.py", *texts])


def in_sweep() -> bool:
    """Whether this is a job of a multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def is_below(key: str, parents: Iterable[str]) -> bool:
    """Whether a dotted key is one of the parents, or lies below one."""
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def parse_overrides(texts: Iterable[str]) -> list[Override]:
    """Hydra's parsed overrides; of each key the last one, which is the one that counts."""
    return list({override.key_or_group: override for override in map(_parsed, texts)}.values())


@lru_cache(10_000)  # the jobs of a sweep share most of theirs
def _parsed(text: str) -> Override:
    return OverridesParser.create().parse_override(text)


def chooses_option(override: Override) -> bool:
    """Whether an override chooses a file of a group, e.g. `model=gcnn`."""
    return override.key_or_group in HydraConfig.get().runtime.choices


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


def stored_config(config: DictConfig) -> dict[str, Any]:
    """The parts of a resolved config that a checkpoint needs to be rebuilt elsewhere."""
    plain = OmegaConf.to_container(config)
    precision = {"trainer": {"precision": plain["trainer"].get("precision")}}
    return {key: plain[key] for key in ("model", "data", "seed", "paths", "task_name")} | precision


def evaluation_config(composed: DictConfig, stored: dict[str, Any]) -> DictConfig:
    """Network, data, seed and precision as the checkpoint has them, then the overrides typed.

    A group choice (`model=gcnn`) replaces the whole group, a value (`data.batch_size=100`) only
    itself. Data are looked for in this machine's `paths.data_dir`. `stored` is what
    `stored_config` put into the checkpoint; what is used of it is `checked`.
    """
    config = OmegaConf.create(OmegaConf.to_container(composed))
    here = relocate(stored, stored["paths"]["data_dir"], composed.paths.data_dir)
    overrides = parse_overrides(command_line())
    chosen = {o.key_or_group for o in overrides if chooses_option(o)}
    for key in {"model", "data", "seed"} - chosen:
        set_value(config, key, checked(here[key], composed.get("trust", False), key))
    if precision := here.get("trainer", {}).get("precision"):
        set_value(config, "trainer.precision", checked(precision, False, "trainer.precision"))
    config = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    for key in (o.key_or_group for o in overrides if not chooses_option(o)):
        set_value(config, key, OmegaConf.select(composed, key))
    return config
