"""What a run says: quiet third parties, the config, and the table of what it reached."""

import io
import logging
import warnings
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

log = logging.getLogger(__name__)

# Hints that a user of this project has no use for.
NOISE = (
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*exists and is not empty.*",
    ".*GPU available but not used.*",
    ".*MPS available but not used.*",
    ".*You requested to overfit but enabled.*",
    ".*in `overfit_batches` mode.*",
    ".*isinstance.treespec, LeafSpec.* is deprecated.*",
)


def quiet_third_party() -> None:
    """Leave Lightning's advertisements and hints out of the console; its warnings stay."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    logging.getLogger("numexpr").setLevel(logging.WARNING)  # PhiFlow's and blosc2's
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)


def apply_extras(config: DictConfig) -> None:
    """Do what the group `extras` asks for: hide warnings, show the config."""
    extras = config.get("extras") or {}
    if extras.get("ignore_warnings"):
        warnings.filterwarnings("ignore")
    if extras.get("print_config"):
        text = OmegaConf.to_yaml(config)
        Console().print(Syntax(text, "yaml", background_color="default"))
        logging.getLogger("file_only").info("Config:\n%s", text)


def duration(seconds: float) -> str:
    """A time in the units a reader thinks in: 42.3 s, 5 min 3 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3e}"


def metrics_table(columns: Mapping[str, Mapping[str, float]]) -> str:
    """A table of metrics as text, one row each, in the columns that have them.

    Args:
        columns: by their headings, metrics by their names.
    """
    table = Table()
    table.add_column("metric")
    for heading in columns:
        table.add_column(heading, justify="right")
    order = ("train", "val", "test")
    names = {name for metrics in columns.values() for name in metrics}
    for name in sorted((n for n in names if n.split("/")[0] in order), key=_order(order)):
        table.add_row(name, *(_cell(metrics.get(name)) for metrics in columns.values()))
    text = io.StringIO()
    Console(file=text, width=100).print(table)
    return text.getvalue().rstrip()


def values_table(values: Mapping[str, float | None]) -> str:
    """A table of figures by name, as text."""
    table = Table("measure", show_header=True)
    table.add_column("value", justify="right")
    for name, value in values.items():
        table.add_row(name, _cell(value))
    text = io.StringIO()
    Console(file=text, width=100).print(table)
    return text.getvalue().rstrip()


def _order(splits: tuple[str, ...]) -> Any:
    return lambda name: (splits.index(name.split("/")[0]), name)
