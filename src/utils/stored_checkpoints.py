"""Checkpoints on disk, alone or all of a run or of a sweep, and where their measures are kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.callbacks.weight_path import FOLDER
from src.utils.checkpoints import load_checkpoint
from src.utils.errors import UserError
from src.utils.measure_store import MeasureStore

CHECKPOINTS = "checkpoints"  # folder of a run directory


@dataclass(frozen=True)
class Stored:
    """A checkpoint file.

    Attributes:
        path: of the file.
        run: directory of the run it belongs to.
        store: where its measures are kept.
        key: its name there.
        asked_for: whether it was named itself, and not found in a directory.
    """

    path: Path
    run: Path
    store: MeasureStore
    key: str
    asked_for: bool

    def picture(self, measure: str) -> Path:
        """The file of a measure's picture."""
        stem = self.key.removesuffix(".ckpt").replace("/", "_")
        return self.store.folder / "measures" / f"{stem}_{measure}.png"

    def earlier(self, step: int) -> list[Path]:
        """The run's weights that were kept along training before an optimizer step, in order."""
        files = sorted((self.run / CHECKPOINTS / FOLDER).glob("*.ckpt"))
        return [file for file in files if load_checkpoint(file)["global_step"] < step]


def find_checkpoints(path: Path, out: Path | None) -> list[Stored]:
    """A checkpoint file, or all below a run directory or a sweep.

    Args:
        path: of the file or directory.
        out: folder for all measures; None: each checkpoint's own.

    Raises:
        UserError: when there is none.
    """
    files = [path] if path.is_file() else sorted(path.rglob(f"{CHECKPOINTS}/**/*.ckpt"))
    if not files:
        raise UserError(
            "`ckpt_path` must be a checkpoint, or a directory with checkpoints below it; got "
            f"{path} without any. A run keeps them in <run directory>/{CHECKPOINTS}."
        )
    return [_stored(file, path, out) for file in files]


def position(checkpoint: Mapping[str, Any]) -> dict[str, float]:
    """How far training was: ``epochs_trained`` and ``step``, the optimizer steps taken."""
    epochs = checkpoint.get("epochs_trained", checkpoint.get("epoch", -1) + 1)
    return {"epochs_trained": float(epochs), "step": checkpoint["global_step"]}


def _stored(file: Path, asked: Path, out: Path | None) -> Stored:
    folders = [parent for parent in file.parents if parent.name == CHECKPOINTS]
    run = folders[-1].parent if folders else file.parent
    if out is None:
        return Stored(file, run, MeasureStore(file.parent), file.name, file == asked)
    key = file.name if file == asked else str(file.relative_to(asked))
    return Stored(file, run, MeasureStore(out), key, file == asked)
