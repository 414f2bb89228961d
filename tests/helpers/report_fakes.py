"""Run directories made up by tests, as `src/train.py` leaves them."""

import base64
import json
from functools import reduce
from pathlib import Path

import torch
import yaml

from src.measures import ForecastScores
from src.reports.reading import StoredRun

ERROR = "dynamics/relaxed_weight_error"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
ACCURACIES = {"CNN": (0.70, 0.72, 0.77), "GCNN": (0.80, 0.84, 0.85)}


def config_of(directory, network, seed, **changes):
    """A resolved config; `changes` are values at dotted keys, with `__` for the dot."""
    config = {
        "task_name": "train",
        "seed": seed,
        "data": {"batch_size": 8, "seed": seed, "data_dir": "/data"},
        "model": {"net": {"_target_": f"some.where.{network}"}, "alpha": 0.0},
        "trainer": {"default_root_dir": str(directory), "max_epochs": 2},
        "paths": {"output_dir": str(directory), "data_dir": "/data", "root_dir": "/code"},
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        reduce(lambda below, parent: below.setdefault(parent, {}), parents, config)[last] = value
    return config


def stored_run(
    network="CNN", seed=0, values=None, *, started="", overrides=(), status="finished", **changes
):
    """A run that is in no directory, with `values` as its test metrics."""
    directory = Path(f"/runs/{network}-{seed}-{len(changes)}-{started}")
    summary = {"status": status, "task": "train", "seed": seed, "test": values or {}}
    config = config_of(directory, network, seed, **changes)
    return StoredRun(directory, config, summary, {"started": started}, list(overrides))


def plumes(level=0, num_known=2, steps=8):
    """Known and true velocities of windows, the truth the less predictable the higher the level."""
    generator = torch.Generator().manual_seed(level)
    slope = torch.randn(4, 1, 2, 4, 4, generator=generator)
    time = torch.arange(num_known + steps).view(-1, 1, 1, 1) / steps
    noise = torch.randn(4, num_known + steps, 2, 4, 4, generator=generator).cumsum(1)
    return (slope * time + (0.1 + 0.05 * level) * noise).split((num_known, steps), 1)


def forecast_scores(error=0.1, level=0, num_known=2, steps=8, prefix="test/"):
    """All test metrics of forecasts of `plumes` with such an error, at the first step."""
    known, truth = plumes(level, num_known, steps)
    growth = torch.arange(1, steps + 1).view(-1, 1, 1, 1)
    metric = ForecastScores()
    metric.update(truth + error * growth, truth, known)
    return {f"{prefix}{name}": value.item() for name, value in metric.compute().items()}


def write_run(
    directory,
    network="CNN",
    seed=0,
    accuracy=0.5,
    status="finished",
    *,
    error=None,
    scores=None,
    **changes,
):
    """A run directory; without a summary where `status` is None.

    `scores` are further test metrics.
    """
    directory.mkdir(parents=True)
    git = changes.pop("git", {"commit": "a" * 40, "dirty": False})
    threads = changes.pop("threads", 1)
    config = config_of(directory, network, seed, **changes)
    (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (directory / "overrides.yaml").write_text(f"- model={network}\n- seed={seed}\n")
    environment = {
        "started": f"2024-01-0{seed + 1}T00:00:00+00:00",
        "command": f"/venv/bin/python src/train.py -m model=CNN,GCNN seed={seed}",
        "git": git,
        "python": "3.12.0",
        "libraries": {"torch": "2.6.0", "lightning": "2.6.0", "numpy": "2.0.0"},
        "devices": {"cpu": "a processor", "cpu_count": 2, "cuda": [], "torch_threads": threads},
    }
    (directory / "environment.json").write_text(json.dumps(environment))
    head = f"epoch,step,epochs_trained,val/acc,{ERROR},{ERROR}/blocks.0"
    lines = [head, "0,0,0.0,,0.0,0.0", "0,6,1.0,0.25,0.1,0.1", f"1,13,2.0,{0.5 + seed},0.2,0.2"]
    (directory / "metrics.csv").write_text("\n".join(lines) + "\n")
    if status is not None:
        last = {"val/acc": 0.4, ERROR: 0.2, f"{ERROR}/blocks.0": 0.2, "train/loss": 1.0}
        reached = {"task": "train", "seed": seed, "num_parameters": 1234, "start": {ERROR: 0.0}}
        reached |= {"num_macs": 5678901, "step_time_s": 0.01 + seed}
        reached["last"] = {"epochs_trained": 2, "metrics": last}
        reached["best"] = {"epochs_trained": 1, "metrics": last | {"val/acc": 0.6}}
        reached["test"] = {"test/acc": accuracy, "test/rmse": 2.0, "test/rmse/01": 1.0}
        reached["test"] |= scores or {}
        summary = {"status": status, "wall_time_s": 1.5}
        summary |= reached if status == "finished" else {"error": error}
        (directory / "summary.json").write_text(json.dumps(summary))
    return directory


def write_measures(run):
    """What `src/measure.py` leaves beside a checkpoint."""
    density = {"grid": [-1.0, 0.0, 2.0], "density": [None, 1.0, 0.2]}
    entries = {
        "hessian": {"values": {"hessian_max": 2.5}, "details": {"density": density}},
        "equivariance_error": {"values": {"equivariance_error": 0.1}, "details": {}},
        "sharpness": {"values": {"sharpness": None}, "details": {}},
    }
    stored = {"best.ckpt": {"epochs_trained": 1.0, "step": 7, "measures": entries}}
    (run / "checkpoints" / "measures").mkdir(parents=True)
    (run / "checkpoints" / "measures.json").write_text(json.dumps(stored))
    (run / "checkpoints" / "measures" / "best_landscape.png").write_bytes(PIXEL)


def write_sweep(sweep):
    """Two networks with three seeds each, a failed job, a killed one, one without a directory."""
    for network, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            run = write_run(sweep / f"{network}-{seed}", network, seed, accuracy)
            if seed == 0:
                write_measures(run)
                (run / "images").mkdir()
                (run / "images" / "relaxed_weights_end.png").write_bytes(PIXEL)
    write_run(sweep / "CNN-3", "CNN", 3, None)
    failed = "<script>alert('&')</script> is no number"
    write_run(sweep / "GCNN-3", "GCNN", 3, status="failed", error=failed)
    killed = write_run(sweep / "GCNN-4", "GCNN", 4, status=None)
    (killed / "checkpoints").mkdir()
    (killed / "checkpoints" / "last.ckpt").write_bytes(b"")
    born = {"overrides": [], "status": "finished", "error": None}
    names = sorted(path.name for path in sweep.iterdir())
    jobs = [{"job": n, "directory": name, **born} for n, name in enumerate(names)]
    unborn = {"overrides": ["model=GCNN", "seed=5"], "status": "not started", "error": None}
    jobs.append({"job": len(jobs), "directory": "GCNN-5", **unborn})
    record = {"started": "now", "overrides": ["model=CNN,GCNN", "seed=range(6)"], "jobs": jobs}
    (sweep / "sweep.json").write_text(json.dumps(record))
    return sweep
