"""What a training reached: the summary of its metrics, the table, the value for a sweeper."""

import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningDataModule, LightningModule, Trainer

from src.errors import UserError
from src.files import BEST, CHECKPOINTS
from src.runs.building import checkpoint_callback, count_parameters
from src.runs.checkpoints import load_checkpoint, load_weights
from src.runs.console import duration, metrics_table
from src.runs.run import Run

log = logging.getLogger(__name__)


def run_test(
    trainer: Trainer, model: LightningModule, datamodule: LightningDataModule
) -> dict[str, float]:
    """Metrics on the test data, of the best checkpoint where there is one."""
    kept = checkpoint_callback(trainer)
    if kept is not None and kept.best_model_path:
        path = kept.best_model_path
        load_weights(model, load_checkpoint(path), path)
    return _tested(trainer, model, datamodule)


def _tested(
    trainer: Trainer, model: LightningModule, datamodule: LightningDataModule
) -> dict[str, float]:
    """Metrics of all test loaders together."""
    per_loader = trainer.test(model, datamodule=datamodule, verbose=False)
    return {name: value for metrics in per_loader for name, value in metrics.items()}


def _epoch(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {"epochs_trained": kept["epoch"] + 1, "metrics": kept["metrics"]} if kept else {}


def _start_values(trainer: Trainer) -> dict[str, float]:
    """What the callbacks measured before the first step."""
    measured = [getattr(callback, "start_values", {}) for callback in trainer.callbacks]
    return {name: value for values in measured for name, value in values.items()}


def summarise(run: Run, trainer: Trainer, tested: dict[str, float]) -> None:
    """Add to the run's summary what it reached, and log it as a table."""
    kept = checkpoint_callback(trainer)
    last = _epoch(kept.last) if kept else {}
    best = _epoch(kept.best) if kept and kept.best_model_path else {}
    run.summary |= {
        "task": run.config.task_name,
        "seed": run.config.seed,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "start": _start_values(trainer),
        "last": last,
        "best": best,
        "best_checkpoint": str(Path(CHECKPOINTS) / BEST) if best else None,
        "test": tested,
    }
    columns = {}
    if last:
        columns[f"last epoch ({last['epochs_trained']})"] = last["metrics"]
    if best:
        columns[f"best epoch ({best['epochs_trained']})"] = {**best["metrics"], **tested}
    else:
        columns["final weights"] = tested
    log_results(run, columns)


def log_results(run: Run, columns: Mapping[str, Mapping[str, float]]) -> None:
    """Log a table of metrics and where the run is.

    Of metrics that are numbered, as `test/rmse/01` to `test/rmse/20` are, the table has the first
    and the last.
    """
    left_out = _middle_of_series({name for metrics in columns.values() for name in metrics})
    columns = {
        heading: {name: value for name, value in metrics.items() if name not in left_out}
        for heading, metrics in columns.items()
    }
    parameters = f"{run.summary['num_parameters']:,} parameters"
    title = f"{parameters}, seed {run.config.seed}, {duration(run.seconds)}"
    log.info("\n%s\n%s", title, metrics_table(columns))
    log.info("Run directory: %s", run.directory)


def _middle_of_series(names: set[str]) -> set[str]:
    """Names that end in a number and are neither the first nor the last of their series."""
    series = defaultdict(list)
    for name in names:
        stem, _, last = name.rpartition("/")
        if last.isdecimal():
            series[stem].append((int(last), name))
    return {name for members in series.values() for _, name in sorted(members)[1:-1]}


def optimized_value(run: Run) -> float | None:
    """The metric that `optimized_metric` names, at the best epoch or on the test data.

    Raises:
        UserError: when there is no metric of that name.
    """
    name = run.config.optimized_metric
    if name is None:
        return None
    epoch = run.summary["best"] or run.summary["last"]
    metrics = {**epoch.get("metrics", {}), **run.summary["test"]}
    if name not in metrics:
        raise UserError(
            f"`optimized_metric` must be a logged metric; got {name!r}. "
            f"Use one of: {', '.join(sorted(metrics))}."
        )
    return metrics[name]


def run_evaluation(
    run: Run, trainer: Trainer, model: LightningModule, datamodule: LightningDataModule
) -> dict[str, float]:
    """Evaluate on the split that the config names; summarise.

    All splits go through the model's test step: weights and training data as they stand, without
    augmentation.

    Returns:
        Metrics named after the split, e.g. `train/acc`.
    """
    split = run.config.split
    datamodule.test_dataloader = getattr(datamodule, f"{split}_dataloader")
    tested = _tested(trainer, model, datamodule)
    metrics = {f"{split}/{name.partition('/')[2]}": value for name, value in tested.items()}
    run.summary |= {
        "task": run.config.task_name,
        "seed": run.config.seed,
        "checkpoint": run.config.ckpt_path,
        "split": split,
        "num_parameters": count_parameters(model),
        "metrics": metrics,
    }
    log_results(run, {"checkpoint": metrics})
    return metrics
