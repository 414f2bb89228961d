"""Metrics of a run as a table: one CSV file, written row by row."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from src.files import METRICS_FILE, write_text

FIRST_COLUMNS = ["epoch", "step"]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics file without empty cells; a last row cut off by a kill is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(whole)]


def _lines(columns: list[str], rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", lineterminator="\n").writerows(rows)
    return text.getvalue()


def _table(columns: list[str], rows: list[dict[str, Any]]) -> str:
    return _lines(columns, [dict(zip(columns, columns)), *rows])


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    names = {name for row in rows for name in row} - set(FIRST_COLUMNS)
    return [*FIRST_COLUMNS, *sorted(names)]


def drop_rows_from(path: str | Path, step: int) -> None:
    """Cut a metrics file back to what was logged before optimisation step `step`."""
    path = Path(path)
    rows = [row for row in read_rows(path) if int(row["step"]) < step]
    if rows:
        write_text(path, _table(_columns(rows), rows))
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

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self._save_dir = save_dir
        self.path = Path(save_dir) / METRICS_FILE
        self._columns: list[str] = []

    @property
    def name(self) -> str:
        """Part of a logger's identity in Lightning; the run directory names this one."""
        return ""

    @property
    def version(self) -> str:
        """Part of a logger's identity in Lightning; the run directory names this one."""
        return ""

    @property
    def save_dir(self) -> str:
        """Directory of the file."""
        return self._save_dir

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run directory holds the config."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Append one row."""
        row = {
            name: value.item() if isinstance(value, Tensor) else value
            for name, value in metrics.items()
        }
        row["step"] = 0 if step is None else step
        if not set(row) <= set(self._columns):
            rows = [*read_rows(self.path), row]
            self._columns = _columns(rows)
            write_text(self.path, _table(self._columns, rows))
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_lines(self._columns, [row]))
