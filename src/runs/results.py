"""What a training reached: the summary of its metrics, the table, the value for a sweeper."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

from lightning import Callback, LightningDataModule, LightningModule, Trainer

from src.callbacks.stopping import out_of_time
from src.errors import UserError
from src.files import BEST, CHECKPOINTS
from src.runs.building import network_size
from src.runs.checkpoints import load_checkpoint, load_weights
from src.runs.config_checks import SPLITS
from src.runs.console import duration, size_text, table
from src.runs.run import Run

log = logging.getLogger(__name__)

SYMMETRY = ("dynamics/equivariance_error", "dynamics/relaxed_weight_error")  # shown with scores


def tested_metrics(
    trainer: Trainer, model: LightningModule, datamodule: LightningDataModule
) -> dict[str, float]:
    """Metrics of all test loaders together, of the weights as they stand."""
    per_loader = trainer.test(model, datamodule=datamodule, verbose=False, weights_only=True)
    return {name: value for metrics in per_loader for name, value in metrics.items()}


def training_status(trainer: Trainer, callbacks: Iterable[Callback]) -> str:
    """How training ended: `finished`, `interrupted` by a time limit, or `pruned` by a callback."""
    if any(getattr(callback, "pruned", False) for callback in callbacks):
        return "pruned"
    return "interrupted" if out_of_time(trainer) else "finished"


def run_test(
    trainer: Trainer, model: LightningModule, datamodule: LightningDataModule
) -> dict[str, float]:
    """Metrics on the test data, of the best checkpoint where there is one."""
    kept = trainer.checkpoint_callback
    if kept is not None and kept.best_model_path:
        load_weights(model, load_checkpoint(kept.best_model_path), kept.best_model_path)
    return tested_metrics(trainer, model, datamodule)


def summarise(run: Run, trainer: Trainer, tested: dict[str, float]) -> None:
    """Add to the run's summary what it reached, and log it as a table."""
    kept = trainer.checkpoint_callback
    measured = [getattr(callback, "start_values", {}) for callback in trainer.callbacks]
    start = {name: value for values in measured for name, value in values.items()}
    epochs, columns = {"last": {}, "best": {}}, {}
    if start.keys() & set(SYMMETRY):
        columns["start"] = start
    for which in epochs:
        found = getattr(kept, which, {})
        if found and (which == "last" or kept.best_model_path):
            trained, metrics = found["epochs_trained"], found["metrics"]
            epochs[which] = {"epochs_trained": trained, "metrics": metrics}
            heading = f"{which} epoch ({trained:.4g})"
            columns[heading] = metrics | (tested if which == "best" else {})
    times = [time for each in trainer.callbacks for time in getattr(each, "step_times", [])]
    run.seconds_before = getattr(kept, "seconds_before", 0.0)
    if tested and not epochs["best"]:
        columns["final weights"] = tested
    run.summary |= {
        "task": run.config.task_name,
        "seed": run.config.seed,
        "epochs": epochs["last"].get("epochs_trained", trainer.current_epoch),
        "steps": trainer.global_step,
        "step_time_s": median(times) if times else None,  # of the epochs' means
        "start": start,
        **epochs,
        "best_checkpoint": str(Path(CHECKPOINTS) / BEST) if epochs["best"] else None,
        "test": tested,
    }
    log_results(run, columns)


def log_results(run: Run, columns: Mapping[str, Mapping[str, float]]) -> None:
    """Log a table of scores and symmetry figures, each named once, and where the run is.

    Of metrics that are numbered, such as `test/rmse/01` to `test/rmse/20`, the table has the first
    and the last.
    """
    names = {name for metrics in columns.values() for name in metrics}
    series = defaultdict(list)
    for name in names:
        stem, _, last = name.rpartition("/")
        if last.isdecimal():
            series[stem].append((int(last), name))
    names -= {name for members in series.values() for _, name in sorted(members)[1:-1]}
    shown = [n for split in SPLITS for n in sorted(names) if n.startswith(f"{split}/")]
    shown += [name for name in SYMMETRY if name in names]
    columns = {
        heading: {name: metrics.get(name) for name in shown} for heading, metrics in columns.items()
    }
    title = f"{size_text(run.summary)}, seed {run.config.seed}, {duration(run.seconds)}"
    if seconds := run.summary.get("step_time_s"):
        title += f", {seconds:.3g} s per step"
    log.info("\n%s\n%s", title, table(columns, "metric"))
    log.info("Run directory: %s", run.directory)


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
) -> None:
    """Evaluate on the split that the config names; summarise, with names such as `train/acc`.

    All splits go through the model's test step: weights and training data as they stand, without
    augmentation.
    """
    split = run.config.split
    datamodule.test_dataloader = getattr(datamodule, f"{split}_dataloader")
    tested = tested_metrics(trainer, model, datamodule)
    metrics = {f"{split}/{name.partition('/')[2]}": value for name, value in tested.items()}
    run.summary |= {
        "task": run.config.task_name,
        "seed": run.config.seed,
        "checkpoint": run.config.ckpt_path,
        "split": split,
        **network_size(model, datamodule),
        "precision": trainer.precision,
        "metrics": metrics,
    }
    log_results(run, {"checkpoint": metrics})
