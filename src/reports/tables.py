"""Tables of text, and the same cells as CSV, Markdown and LaTeX."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from src.reports.statistics import Estimate

MISSING = "-"
NOT_ESCAPED_BY_PANDAS = {"<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "−": r"$-$"}


@dataclass(frozen=True)
class Table:
    """Cells under headings.

    Attributes:
        name: name of its files.
        caption: what it holds, in a sentence.
        columns: headings.
        rows: cells, as many in each row as there are columns.
        text_columns: how many columns from the left are words; the others are numbers.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1

    def csv(self) -> str:
        """Comma-separated, with a line of headings."""
        frame = pd.DataFrame(self.rows, columns=self.columns)
        return frame.to_csv(index=False, lineterminator="\n")

    def markdown(self) -> str:
        """A pipe table."""
        ends = ["---"] * self.text_columns + ["---:"] * (len(self.columns) - self.text_columns)
        cells = [
            [_one_line(cell).replace("\\", "\\\\").replace("|", "\\|") for cell in line]
            for line in (self.columns, *self.rows)
        ]
        head, *body = [f"| {' | '.join(line)} |" for line in cells]
        return "\n".join([head, f"|{'|'.join(ends)}|", *body]) + "\n"

    def latex(self) -> str:
        """A `tabular` with the rules of booktabs."""
        rows = [[_one_line(cell) for cell in row] for row in self.rows]
        styler = pd.DataFrame(rows, columns=self.columns).style.hide(axis="index")
        styler = styler.format(escape="latex").format_index(escape="latex", axis=1)
        kinds = "l" * self.text_columns + "r" * (len(self.columns) - self.text_columns)
        text = styler.to_latex(column_format=kinds, hrules=True)
        for character, code in NOT_ESCAPED_BY_PANDAS.items():
            text = text.replace(character, code)
        return f"% {_one_line(self.caption)}; needs \\usepackage{{booktabs}}\n{text}"


def number(value: float, step: float = math.nan) -> str:
    """A number as text.

    Args:
        value: what is shown; NaN and infinity give a dash.
        step: the size of differences that matter, e.g. a standard deviation: it is shown with two
            digits. NaN or 0: four significant digits.
    """
    if not math.isfinite(value):
        return MISSING
    if not step or not math.isfinite(step):
        return f"{value:.4g}"
    largest = max(abs(value), step)
    exponent = math.floor(math.log10(step))
    if not 1e-4 <= largest < 1e6:
        digits = math.floor(math.log10(largest)) - exponent + 1
        return f"{value:.{max(0, min(8, digits))}e}"
    return f"{value:.{max(0, min(10, 1 - exponent))}f}"


def mean_and_deviation(found: Estimate) -> str:
    """`0.853 ± 0.012`, or the mean alone where there is no deviation."""
    if math.isnan(found.deviation):
        return number(found.mean)
    return f"{number(found.mean, found.deviation)} ± {number(found.deviation, found.deviation)}"


def interval(found: Estimate) -> str:
    """`[0.84, 0.87]`, or a dash where there is none."""
    if math.isnan(found.low):
        return MISSING
    return f"[{number(found.low, found.deviation)}, {number(found.high, found.deviation)}]"


def _one_line(cell: str) -> str:
    return " ".join(cell.split())
