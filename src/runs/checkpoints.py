"""Checkpoints on disk: how they are read, and where their measures are kept."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from lightning import LightningModule

from src import files
from src.errors import UserError
from src.locks import file_lock

COLUMNS = ("checkpoint", "epochs_trained", "step", "measure", "name", "value")

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # buffers of batch norm

Entry = dict[str, Any]


class MeasureStore:
    """The measures kept in one folder.

    ``measures.json`` holds, by checkpoint and by measure, the settings, the figures by name and
    whatever else was found (curves, spectra, maps); ``measures.csv`` the figures alone, one a row.
    Each entry is written atomically as soon as it is there. Several processes may write.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / files.MEASURES_JSON

    def read(self) -> dict[str, Entry]:
        """All entries: by checkpoint, {epochs_trained, step, measures by name}."""
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}

    def find(self, checkpoint: str, measure: str, fingerprint: str) -> Entry | None:
        """The entry of a measure of a checkpoint, if it was made with these settings."""
        entry = self.read().get(checkpoint, {}).get("measures", {}).get(measure)
        return entry if entry and entry["fingerprint"] == fingerprint else None

    def add(self, checkpoint: str, position: Entry, measure: str, entry: Entry) -> None:
        """Keep the entry of a measure of a checkpoint, in place of an earlier one.

        An entry has ``fingerprint``, ``settings``, ``values`` and ``details``; the position is
        the checkpoint's ``epochs_trained`` and ``step``.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with file_lock(self.folder / f".{files.MEASURES_JSON}.lock"):
            entries = self.read()
            entries[checkpoint] = entries.get(checkpoint, {"measures": {}}) | position
            entries[checkpoint]["measures"][measure] = entry
            text = io.StringIO()
            table = csv.writer(text, lineterminator="\n")
            table.writerow(COLUMNS)
            for name, kept in entries.items():
                start = (name, kept["epochs_trained"], kept["step"])
                for taken, found in kept["measures"].items():
                    table.writerows((*start, taken, *value) for value in found["values"].items())
            files.write_json(self.path, entries)
            files.write_text(self.folder / files.MEASURES_CSV, text.getvalue())


def fingerprint(settings: Entry, checkpoint: Mapping[str, Any]) -> str:
    """A hash of the settings of a measure and of all that measures read of a checkpoint.

    Checkpoints of one run that hold the same weights, such as the best and the last, have the same.
    So statistics of batch norm are left out where settings say that they are estimated anew, by
    their ``statistics_samples``.
    """
    unread = STATISTICS if settings.get("statistics_samples") else ()
    read = {key: checkpoint.get(key) for key in ("config", "relaxation")} | position(checkpoint)
    digest = hashlib.sha256(json.dumps([settings, read], sort_keys=True, default=str).encode())
    for name, tensor in checkpoint["state_dict"].items():
        if name.rpartition(".")[2] in unread:
            continue
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass(frozen=True)
class Stored:
    """A checkpoint file, of a run, and where its measures are kept."""

    path: Path
    run: Path  # directory
    store: MeasureStore
    key: str  # its name in the store
    named: bool  # itself, and not found in a directory

    def picture(self, measure: str) -> Path:
        """The file of a measure's picture."""
        stem = self.key.removesuffix(".ckpt").replace("/", "_")
        return self.store.folder / files.MEASURES / f"{stem}_{measure}.png"

    def path_of_training(self) -> list[dict[str, Any]]:
        """Checkpoints that the run kept along training before this one, in order, and this one."""
        kept = sorted((self.run / files.CHECKPOINTS / files.PATH_FOLDER).glob("*.ckpt"))
        end = load_checkpoint(self.path)
        before = [c for c in map(load_checkpoint, kept) if c["global_step"] < end["global_step"]]
        return [*before, end]


def find_checkpoints(path: Path, output_dir: Path | None) -> list[Stored]:
    """A checkpoint file, or all below a run directory or a sweep.

    Their measures are kept in `output_dir`, or each in the checkpoint's own folder.

    Raises:
        UserError: when there is none.
    """
    below = f"{files.CHECKPOINTS}/**/*.ckpt"
    paths = [path] if path.is_file() else sorted(path.rglob(below))
    if not paths:
        raise UserError(
            "`ckpt_path` must be a checkpoint, or a directory with checkpoints below it; got "
            f"{path} without any. A run keeps them in <run directory>/{files.CHECKPOINTS}."
        )
    found = []
    for file in paths:
        folders = [parent for parent in file.parents if parent.name == files.CHECKPOINTS]
        run = folders[-1].parent if folders else file.parent
        named = file == path
        key = file.name if named or output_dir is None else str(file.relative_to(path))
        found.append(Stored(file, run, MeasureStore(output_dir or file.parent), key, named))
    return found


def position(checkpoint: Mapping[str, Any]) -> dict[str, float]:
    """How far training was: ``epochs_trained`` and ``step``, the optimizer steps taken."""
    epochs = checkpoint.get("epochs_trained", checkpoint.get("epoch", -1) + 1)
    return {"epochs_trained": float(epochs), "step": checkpoint["global_step"]}


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint that `src/train.py` wrote, onto the CPU, without running its code.

    Raises:
        UserError: when the file is missing, damaged, or from elsewhere.
    """
    if not Path(path).is_file():
        raise UserError(
            f"A checkpoint must be an existing file; got {path}. "
            "A run keeps them in <run directory>/checkpoints."
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the reader fail in any way
        raise UserError(
            f"A checkpoint must be a whole file of weights and plain values; {path} could not be "
            f"read ({type(error).__name__}). It is damaged or of another program; use another "
            "checkpoint of the run, or train again."
        ) from error
    missing = {"state_dict", "config"} - set(checkpoint if isinstance(checkpoint, dict) else ())
    if missing:
        raise UserError(
            f"A checkpoint must hold the weights and the config they were trained with; {path} "
            f"lacks {', '.join(sorted(missing))}. Use one that src/train.py wrote."
        )
    return checkpoint


def load_weights(model: LightningModule, checkpoint: dict[str, Any], path: str | Path) -> None:
    """Load a checkpoint's weights into a network of the same architecture.

    Also restores the state that `on_load_checkpoint` handles, such as theta.

    Raises:
        UserError: when names or shapes differ, with the first of the differences.
    """
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        network = checkpoint["config"].get("model", {}).get("net", {}).get("_target_", "unknown")
        raise UserError(
            f"A checkpoint must be of the same architecture as the network; {path} (a {network}) "
            f"differs: {shorten(str(error), 600)} Choose the `model` and `relaxation` it "
            "was trained with, or a checkpoint of this one."
        ) from error
    model.on_load_checkpoint(checkpoint)
