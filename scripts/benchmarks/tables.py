"""Results as Markdown and as JSON."""

import argparse
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from src.files import write_json
from src.runs.environment import describe_environment

ROOT = Path(__file__).resolve().parents[2]
OF_THIS_MACHINE = ("command", "directory", "data_dir")  # what would put its paths into a record


@dataclass(frozen=True)
class Table:
    """Rows with the same columns.

    Attributes:
        title: what was measured, with units.
        rows: one dict per row, from column to text, number or `timing.Ratio`.
        note: what a reader must know to read it.
    """

    title: str
    rows: list[dict[str, Any]]
    note: str = ""

    def markdown(self) -> str:
        """The table as README shows it."""
        columns = list(self.rows[0])
        lines = [f"**{self.title}**", "", _line(columns), _line(["---"] * len(columns))]
        lines += [_line([_text(row[column]) for column in columns]) for row in self.rows]
        if self.note:
            lines += ["", self.note]
        return "\n".join(lines) + "\n"

    def record(self) -> dict[str, Any]:
        """The table for a JSON file, all digits kept."""
        rows = [{column: _number(value) for column, value in row.items()} for row in self.rows]
        return {"title": self.title, "note": self.note, "rows": rows}


def report(tables: list[Table], arguments: argparse.Namespace) -> None:
    """Print tables; write them as JSON, with options, versions, commit and hardware, if asked to.

    Args:
        tables: what was measured.
        arguments: options of the command line; ``output`` is the JSON file, or None.
    """
    print("\n".join(table.markdown() for table in tables))
    if arguments.output is None:
        return
    environment = describe_environment(ROOT, seed=0)
    record = {
        "options": _without_paths({key: str(value) for key, value in vars(arguments).items()}),
        "environment": _without_paths(environment),
        "tables": [table.record() for table in tables],
    }
    write_json(arguments.output, record)


def _without_paths(entries: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if key not in OF_THIS_MACHINE}


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return str(value)


def _number(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) else value
