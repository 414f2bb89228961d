"""Results as Markdown and as JSON."""

from dataclasses import asdict, dataclass, is_dataclass
from typing import Any


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


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return str(value)


def _number(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) else value
