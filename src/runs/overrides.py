"""Command-line overrides: keys of earlier versions, and changes of a config stored earlier."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

# Where, or how loudly, a run goes. None of these, nor keys below them, changes what it computes
# beyond the last digits.
CIRCUMSTANCES = (
    *("trainer.accelerator", "trainer.devices", "trainer.profiler"),
    *("trainer.enable_progress_bar", "trainer.log_every_n_steps"),
    *("data.num_workers", "paths.data_dir", "logger", "extras", "tags", "optimized_metric"),
)

# Keys, and options of groups, of earlier versions (patterns), and what stands for them now.
RENAMED = {
    "sweep_name": "sweep.name",
    "(rerun|fail_fast|spread_jobs)": r"sweep.\1",
    r"measure\.(\w+)\.only": r"measure.\1.checkpoint",
    "again": "overwrite",
    "out": "output_dir",
    "trainer=fsdp": "trainer=ddp",
    "experiment=(cnn|e2cnn|gcnn|rsteer|rtrans)_smoke_rotation": (
        r"experiment=rgcnn_smoke_rotation model=\1_smoke_paper"
    ),
}


def refuse_renamed(main: Callable[..., Any]) -> Callable[..., Any]:
    """Let an entry point end with one message where its command line has names of `RENAMED`.

    To stand above `hydra.main`, which would only say that it does not know the key.
    """

    @wraps(main)
    def checked(*arguments: Any) -> Any:
        names = []
        for override in sys.argv[1:]:
            key, _, value = override.lstrip("+~").partition("=")
            if key == "out" and Path(sys.argv[0]).stem == "export":
                continue  # its file
            names += [key, *(f"{key}={option}" for option in re.findall(r"\w+", value))]
        messages = [
            f"`{name}` is of an earlier version. Use `{match.expand(new)}`."
            for name in names
            for old, new in RENAMED.items()
            if (match := re.fullmatch(old, name))
        ]
        if messages:
            sys.exit("\n".join(messages))
        return main(*arguments)

    return checked


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
    """Hydra's parsed overrides; of each key the last one, which is the one that counts."""
    overrides = OverridesParser.create().parse_overrides(list(texts))
    return list({override.key_or_group: override for override in overrides}.values())


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
    return {key: plain[key] for key in ("model", "data", "seed", "paths", "task_name")}


def evaluation_config(composed: DictConfig, stored: dict[str, Any]) -> DictConfig:
    """Network, data and seed as the checkpoint has them, then the command line's overrides.

    A group choice (`model=gcnn`) replaces the whole group, a value (`data.batch_size=100`) only
    itself. Data are looked for in this machine's `paths.data_dir`. `stored` is what
    `stored_config` put into the checkpoint.
    """
    config = OmegaConf.create(OmegaConf.to_container(composed, resolve=True))
    here = relocate(stored, stored["paths"]["data_dir"], config.paths.data_dir)
    overrides = parse_overrides(command_line())
    chosen = {o.key_or_group for o in overrides if chooses_option(o)}
    for key in {"model", "data", "seed"} - chosen:
        set_value(config, key, here[key])
    for key in (o.key_or_group for o in overrides if not chooses_option(o)):
        set_value(config, key, OmegaConf.select(composed, key))
    return config
