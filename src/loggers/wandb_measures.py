"""Figures measured after a run, added to the run on the W&B server."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from src.files import SUMMARY_FILE
from src.loggers.wandb_logger import define_x_axis, read_identity
from src.loggers.wandb_run import find_parts, finish_wandb, is_waiting, start_run

log = logging.getLogger(__name__)

TIMEOUTS = {"init_timeout": 10.0, "finish_timeout": 20.0}


def update_wandb_run(directory: Path, values: Mapping[str, Mapping[str, float]]) -> bool:
    """Add figures to the summary of a run's W&B run, as ``measures/<checkpoint>/<name>``.

    History, names and state of the run (finished, failed) stay as they are. Runs without W&B, and
    runs of which a part waits for `wandb sync`, are left alone: their figures lie in
    ``measures.json``. Where the server cannot be reached, figures are kept for `wandb sync`.

    Returns:
        Whether the figures went to the server.
    """
    identity = read_identity(directory)
    parts = find_parts(directory, identity["id"]) if identity else []
    if not parts:
        return False
    if any(map(is_waiting, parts)):
        log.info("W&B: %s is kept offline; its measures lie in measures.json alone.", directory)
        return False
    summary = directory / SUMMARY_FILE  # a run that was killed has none
    status = json.loads(summary.read_text(encoding="utf-8"))["status"] if summary.is_file() else ""
    run = start_run({**identity, "dir": str(directory)}, identity["id"], TIMEOUTS)
    if run is None:
        return False
    sent = not (run.offline or run.disabled)
    define_x_axis(run)
    for checkpoint, figures in values.items():
        run.summary.update({f"measures/{checkpoint}/{name}": v for name, v in figures.items()})
    finish_wandb(exit_code=0 if status in ("finished", "pruned") else 1)
    return sent
