"""Where measures of checkpoints are kept: all of it as JSON, the figures alone as CSV."""

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

from filelock import FileLock

from src.files import MEASURES_CSV, MEASURES_JSON, write_json, write_text

COLUMNS = ("checkpoint", "epochs_trained", "step", "measure", "name", "value")

Entry = dict[str, Any]


class MeasureStore:
    """The measures kept in one folder.

    ``measures.json`` holds, by checkpoint and by measure, the settings, the figures by name and
    whatever else was found (curves, spectra, maps); ``measures.csv`` the figures alone, one a row.
    Each entry is written as soon as it is there, to a temporary file that is renamed, so that an
    interruption loses nothing else. Several processes may write to one folder.

    Args:
        folder: of both files.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / MEASURES_JSON

    def read(self) -> dict[str, Entry]:
        """All entries: by checkpoint, {epochs_trained, step, measures by name}."""
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}

    def find(self, checkpoint: str, measure: str, fingerprint: str) -> Entry | None:
        """The entry of a measure of a checkpoint, if it was made with these settings."""
        entry = self.read().get(checkpoint, {}).get("measures", {}).get(measure)
        return entry if entry and entry["fingerprint"] == fingerprint else None

    def add(self, checkpoint: str, position: Entry, measure: str, entry: Entry) -> None:
        """Keep the entry of a measure of a checkpoint, in place of an earlier one.

        Args:
            checkpoint: name of its file.
            position: its ``epochs_trained`` and ``step``.
            measure: name of the measure.
            entry: with ``fingerprint``, ``settings``, ``values`` and ``details``.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f".{MEASURES_JSON}.lock"):
            entries = self.read()
            of_checkpoint = entries.setdefault(checkpoint, {"measures": {}}) | position
            of_checkpoint["measures"][measure] = entry
            entries[checkpoint] = of_checkpoint
            write_json(self.path, entries)
            write_text(self.folder / MEASURES_CSV, _table(entries))


def fingerprint(settings: Entry, checkpoint: Path) -> str:
    """A hash of the settings of a measure and of the checkpoint's bytes."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(checkpoint.read_bytes())
    return digest.hexdigest()


def _table(entries: dict[str, Entry]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for checkpoint, of_checkpoint in entries.items():
        for measure, entry in of_checkpoint["measures"].items():
            for name, value in entry["values"].items():
                position = (of_checkpoint["epochs_trained"], of_checkpoint["step"])
                writer.writerow((checkpoint, *position, measure, name, value))
    return text.getvalue()
