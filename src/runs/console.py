"""What a run shows: no hints of third parties, the config on request, times and tables."""

import io
import logging
import sys
import warnings
from collections.abc import Mapping

from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

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
    ".*`srun` command is available on your system but is not.*",
)


def quiet_third_party() -> None:
    """Leave Lightning's advertisements and hints out of the console; its warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "numexpr"):  # blosc2's
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)


def apply_extras(config: DictConfig) -> None:
    """Do what the group `extras` asks for: hide warnings, show the config."""
    extras = config.get("extras", {})
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
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size_text(size: Mapping[str, int | None]) -> str:
    """What `network_size` found: 29,092 parameters, 17,703,674 MACs per forward pass."""
    macs = size.get("num_macs")
    per_pass = f", {macs:,} MACs per forward pass" if macs is not None else ""
    return f"{size['num_parameters']:,} parameters{per_pass}"


def table(columns: Mapping[str, Mapping[str, float | None]], heading: str) -> str:
    """Numbers by name, in columns with headings, as text; rows in order of appearance."""
    encoding = sys.stdout.encoding or "ascii"
    drawn = Table(heading, box=box.HEAVY_HEAD if encoding.lower().startswith("utf") else box.ASCII)
    for column in columns:
        drawn.add_column(column, justify="right")
    for name in dict.fromkeys(name for numbers in columns.values() for name in numbers):
        cells = []
        for value in (numbers.get(name) for numbers in columns.values()):
            fixed = value is not None and (1e-3 <= abs(value) < 1e4 or value == 0)
            cells.append("" if value is None else f"{value:.4f}" if fixed else f"{value:.3e}")
        drawn.add_row(name, *cells)
    text = io.StringIO()
    Console(file=text, width=100).print(drawn)
    return text.getvalue().rstrip()
