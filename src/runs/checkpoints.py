"""Checkpoints on disk: how they are read, and where their measures are kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule

from src.errors import UserError
from src.files import CHECKPOINTS, MEASURES, PATH_FOLDER
from src.runs.measure_store import MeasureStore


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
        return self.store.folder / MEASURES / f"{stem}_{measure}.png"

    def earlier(self, step: int) -> list[Path]:
        """The run's weights that were kept along training before an optimizer step, in order."""
        files = sorted((self.run / CHECKPOINTS / PATH_FOLDER).glob("*.ckpt"))
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


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint that `src/train.py` wrote, onto the CPU, without running its code.

    Raises:
        UserError: when the file is missing, damaged, or from elsewhere.
    """
    path = Path(path)
    if not path.is_file():
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


def _listed(names: list[str], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def load_weights(model: LightningModule, checkpoint: dict[str, Any], path: str | Path) -> None:
    """Load a checkpoint's weights into a network of the same architecture.

    And what else the model restores from one, as how relaxed its layers are.

    Raises:
        UserError: when names or shapes differ, with a summary of the differences.
    """
    stored, wanted = checkpoint["state_dict"], model.state_dict()
    shapes = [
        f"{name} {tuple(stored[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in stored and stored[name].shape != wanted[name].shape
    ]
    differences = {
        "missing": [name for name in wanted if name not in stored],
        "unexpected": [name for name in stored if name not in wanted],
        "of another shape": shapes,
    }
    told = [f"{_listed(names)} ({word})" for word, names in differences.items() if names]
    if told:
        network = checkpoint["config"].get("model", {}).get("net", {}).get("_target_", "unknown")
        raise UserError(
            f"A checkpoint must be of the same architecture as the network; {path} (a {network}) "
            f"differs: {'; '.join(told)}. Choose the `model` it was trained with, or a checkpoint "
            "of this one."
        )
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(stored)
