"""Metrics of a run as a table: one CSV file, written row by row."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from src.files import METRICS_FILE, named_in_errors, write_text

FIRST_COLUMNS = ["epoch", "step"]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics file without empty cells; a last row cut off by a kill is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(whole)]


def drop_rows_from(path: Path, step: int) -> None:
    """Cut a metrics file back to what was logged before optimisation step `step`."""
    rows = [row for row in read_rows(path) if int(row["step"]) < step]
    if rows:
        _write_table(path, rows)
    else:
        path.unlink(missing_ok=True)


class MetricsCSVLogger(Logger):
    """Appends every logged set of metrics as a row to `<save_dir>/metrics.csv`.

    Each row has `epoch` and `step` and leaves cells of other metrics empty; floats are written
    with all their digits. An existing file is continued, as a resumed run does. A metric that
    appears for the first time adds a column, for which the file is rewritten and renamed.

    Args:
        save_dir: directory of the file.
    """

    name = version = ""  # a logger's identity in Lightning; the run directory names this one

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self.path = Path(save_dir) / METRICS_FILE
        self._columns: list[str] = []

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run directory holds the config."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Append one row."""
        row = {n: v.item() if isinstance(v, Tensor) else v for n, v in metrics.items()}
        row["step"] = step or 0
        if set(row) <= set(self._columns):
            with named_in_errors(self.path), self.path.open("a", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns, "", lineterminator="\n").writerow(row)
        else:
            self._columns = _write_table(self.path, [*read_rows(self.path), row])


def _write_table(path: Path, rows: list[dict[str, Any]]) -> list[str]:
    """Write the file anew; its columns."""
    names = {name for row in rows for name in row} - set(FIRST_COLUMNS)
    columns = [*FIRST_COLUMNS, *sorted(names)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
    return columns
