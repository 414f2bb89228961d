"""Command line of the benchmarks; results as Markdown and as JSON."""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from src.files import write_json
from src.runs.environment import describe_environment

ROOT = Path(__file__).resolve().parents[2]
WITH_PATHS = ("command", "directory", "data_dir")  # would put paths of this machine into a record


@dataclass(frozen=True)
class Table:
    """Rows, each from column to text, number or `timing.Ratio`, and a note on how to read them."""

    title: str
    rows: list[dict[str, Any]]
    note: str = ""

    def markdown(self) -> str:
        """The table as the documentation shows it; `asdict` keeps all digits."""

        def text(value: Any) -> str:
            if isinstance(value, float):
                return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
            return str(value)

        cells = [[text(value) for value in row.values()] for row in self.rows]
        columns = list(self.rows[0])
        lines = [f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *cells)]
        note = ["", self.note] if self.note else []
        return "\n".join([f"**{self.title}**", "", *lines, *note]) + "\n"


def make_parser(description: str, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser with the options that benchmarks share; with `--rounds` where it has a default."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="rounds of every comparison")
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    parser.add_argument("--threads", type=int, help="threads of PyTorch on the CPU")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line, and set the number of threads where it was given."""
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    return arguments


def report(tables: list[Table], arguments: argparse.Namespace) -> None:
    """Print tables; write them to `--output` with options, versions, commit and hardware."""
    print("\n".join(table.markdown() for table in tables))
    if arguments.output is not None:
        options = {k: str(v) for k, v in vars(arguments).items() if k not in WITH_PATHS}
        machine = describe_environment(ROOT, seed=0)
        machine = {key: value for key, value in machine.items() if key not in WITH_PATHS}
        records = [asdict(table) for table in tables]
        entries = {"options": options, "environment": machine, "tables": records}
        write_json(arguments.output, entries)
