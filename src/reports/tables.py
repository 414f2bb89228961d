"""Tables of text, and the same cells as CSV, Markdown and LaTeX."""

import csv
import io
import math
from dataclasses import dataclass

from src.reports.statistics import Estimate

MISSING = "-"
LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": r"$-$",
}


@dataclass(frozen=True)
class Table:
    """Cells under headings.

    Attributes:
        name: of its files.
        caption: what it holds, in a sentence.
        columns: headings.
        rows: cells, as many in each row as there are columns.
        text_columns: how many columns from the left are words; the others are numbers.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1

    def csv(self) -> str:
        """Comma-separated, with a line of headings."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()

    def markdown(self) -> str:
        """A pipe table."""
        ends = ["---"] * self.text_columns + ["---:"] * (len(self.columns) - self.text_columns)
        lines = [self.columns, *self.rows]
        head, *body = ["| " + " | ".join(map(_markdown, line)) + " |" for line in lines]
        return "\n".join([head, "|" + "|".join(ends) + "|", *body]) + "\n"

    def latex(self) -> str:
        """A plain `tabular`, which needs no package."""
        kinds = "l" * self.text_columns + "r" * (len(self.columns) - self.text_columns)
        head, *body = [
            " & ".join(map(_latex, line)) + r" \\" for line in [self.columns, *self.rows]
        ]
        lines = [f"% {_one_line(self.caption)}", rf"\begin{{tabular}}{{{kinds}}}", r"\hline"]
        lines += [head, r"\hline", *body, r"\hline", r"\end{tabular}"]
        return "\n".join(lines) + "\n"


def number(value: float | None, step: float | None = None) -> str:
    """A number as text.

    Args:
        value: None gives a dash.
        step: the size of differences that matter, e.g. a standard deviation: it is shown with two
            digits. None or 0: four significant digits.
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if not step or not math.isfinite(step):
        return f"{value:.4g}"
    largest = max(abs(value), step)
    if not 1e-4 <= largest < 1e6:
        digits = max(0, min(8, _exponent(largest) - _exponent(step) + 1))
        return f"{value:.{digits}e}"
    return f"{value:.{max(0, min(10, 1 - _exponent(step)))}f}"


def mean_and_deviation(found: Estimate) -> str:
    """`0.853 ± 0.012`, or the mean alone where there is no deviation."""
    if found.deviation is None:
        return number(found.mean)
    return f"{number(found.mean, found.deviation)} ± {number(found.deviation, found.deviation)}"


def interval(found: Estimate) -> str:
    """`[0.84, 0.87]`, or a dash where there is none."""
    if found.low is None or found.high is None:
        return MISSING
    step = found.deviation
    return f"[{number(found.low, step)}, {number(found.high, step)}]"


def sample_size(found: Estimate) -> str:
    """`3`, or `2 (1 not finite)`."""
    return f"{found.n} ({found.not_finite} not finite)" if found.not_finite else str(found.n)


def p_value(value: float | None) -> str:
    """Two significant digits; `<0.0001` below that."""
    if value is None:
        return MISSING
    return "<0.0001" if value < 1e-4 else f"{value:.2g}"


def _exponent(value: float) -> int:
    return math.floor(math.log10(abs(value)))


def _one_line(cell: str) -> str:
    return " ".join(cell.split())


def _markdown(cell: str) -> str:
    return _one_line(cell).replace("\\", "\\\\").replace("|", "\\|")


def _latex(cell: str) -> str:
    return "".join(LATEX.get(character, character) for character in _one_line(cell))
