"""Figures measured after a run, added to the run on the W&B server."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from src.files import RUN_CONFIG
from src.loggers.wandb_logger import define_x_axis, read_identity
from src.loggers.wandb_offline import find_wandb_files, is_waiting, read_wandb_file
from src.loggers.wandb_run import finish_wandb, start_run

log = logging.getLogger(__name__)

TIMEOUTS = {"init_timeout": 10.0, "finish_timeout": 20.0}
KEPT = ("entity", "job_type", "tags", "notes")  # as the run's logger has given them


def update_wandb_run(directory: Path, values: Mapping[str, Mapping[str, float]]) -> bool:
    """Add figures to the summary of a run's W&B run, as ``measures/<checkpoint>/<name>``.

    History, names and state of the run (finished, failed) stay as they are.

    Args:
        directory: of the run.
        values: by checkpoint and by name.

    Returns:
        Whether the figures went to the server. Runs without W&B, and runs of which a part waits
        for `wandb sync`, are left alone: their figures lie in ``measures.json``. Where the server
        cannot be reached, they are kept for `wandb sync`.
    """
    identity = read_identity(directory)
    files = find_wandb_files(directory, identity["id"]) if identity else []
    if not files:
        return False
    if any(is_waiting(file) for file in files):
        log.info("W&B: %s is kept offline; its measures lie in measures.json alone.", directory)
        return False
    last = read_wandb_file(files[-1])
    arguments = {"dir": str(directory), "project": last.project, **_arguments(directory, identity)}
    run = start_run(arguments, identity["id"], TIMEOUTS)
    sent = not (run.offline or run.disabled)
    define_x_axis(run)
    for checkpoint, figures in values.items():
        run.summary.update({f"measures/{checkpoint}/{name}": v for name, v in figures.items()})
    finish_wandb(exit_code=1 if last.exit_code is None else last.exit_code)
    return sent


def _arguments(directory: Path, identity: dict[str, Any]) -> dict[str, Any]:
    stored = yaml.safe_load((directory / RUN_CONFIG).read_text(encoding="utf-8"))
    logger = (stored.get("logger") or {}).get("wandb") or {}
    kept = {key: logger.get(key) for key in KEPT}
    return {**kept, "name": identity["name"], "group": identity["group"]}
