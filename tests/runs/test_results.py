import logging
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.errors import UserError
from src.runs.results import log_results, optimized_value
from src.runs.run import Run
from tests.conftest import QUIET


def test_a_sweeper_gets_the_metric_of_the_best_epoch_or_of_the_test():
    best = {"epochs_trained": 2, "metrics": {"val/acc": 0.9, "train/loss": 0.1}}
    summary = {"last": {"metrics": {"val/acc": 0.8}}, "test": {"test/acc": 0.7}}

    def value(name, best=best):
        config = OmegaConf.create({"optimized_metric": name})
        return optimized_value(Run(config, Path(), summary=summary | {"best": best}))

    assert value(None) is None
    assert (value("val/acc"), value("val/acc", best={}), value("test/acc")) == (0.9, 0.8, 0.7)
    with pytest.raises(UserError, match=r"got 'val/f1'.* test/acc, train/loss, val/acc"):
        value("val/f1")


def test_the_table_has_scores_symmetry_and_the_ends_of_a_series_of_metrics(caplog):
    run = Run(OmegaConf.create({"seed": 0}), Path("a_run"))
    run.summary = {"num_parameters": 1234, "num_macs": 5678901, "step_time_s": 0.01234}
    metrics = {f"test/{part}rmse/{t:02d}": t / 10 for part in ("", "domain/") for t in range(1, 21)}
    metrics |= {"test/rmse": 0.7, "test/domain/rmse": 0.8, "val/rmse": 0.6, "test/acc/2": 0.5}
    metrics |= {"dynamics/grad_norm": 1.0, "dynamics/relaxed_weight_error": 0.02}
    last = {"train/loss": 0.125, "val/rmse": 0.65}
    with caplog.at_level(logging.INFO, logger="src.runs.results"):
        start = {f"dynamics/{n}": 0.0 for n in ("relaxed_weight_error", "relaxed_weight_error/a")}
        start["dynamics/equivariance_error"] = 1e-7
        log_results(run, {"start": start, "best epoch (3)": metrics, "last epoch (4)": last})
    rows = [line.split("│")[1:-1] for line in caplog.text.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        *(["train/loss", "", "", "0.1250"], ["val/rmse", "", "0.6000", "0.6500"]),
        *(["test/acc/2", "", "0.5000", ""], ["test/domain/rmse", "", "0.8000", ""]),
        ["test/domain/rmse/01", "", "0.1000", ""],
        ["test/domain/rmse/20", "", "2.0000", ""],
        *(["test/rmse", "", "0.7000", ""], ["test/rmse/01", "", "0.1000", ""]),
        ["test/rmse/20", "", "2.0000", ""],
        ["dynamics/equivariance_error", "1.000e-07", "", ""],
        ["dynamics/relaxed_weight_error", "0.0000", "0.0200", ""],
    ]
    assert "1,234 parameters, 5,678,901 MACs per forward pass, seed 0, " in caplog.text
    assert ", 0.0123 s per step\n" in caplog.text


@pytest.mark.slow
def test_networks_that_forecast_are_trained_tested_and_evaluated(run_entry_point):
    trained = run_entry_point(
        *("train", "model=forecaster", "data=shared_windows", "trainer=cpu", "logger=csv", QUIET),
        *("callbacks=smoke", "trainer.max_epochs=2", "optimized_metric=test/domain/rmse"),
    )
    tested = trained.summary["test"]
    assert {"test/rmse/02", "test/domain/rmse", "test/domain/rmse_persistence"} <= set(tested)
    assert "│ test/domain/rmse " in trained.log
    assert trained.summary["start"]["dynamics/equivariance_error"] > 1e-3
    assert {"forecast.png", "forecast.gif"} <= {p.name for p in (trained / "images").iterdir()}
    checkpoint = f"ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"
    evaluated = run_entry_point("eval", checkpoint, "split=test").summary["metrics"]
    assert evaluated == tested
    evaluated = run_entry_point("eval", checkpoint, "split=val").summary["metrics"]
    best = trained.summary["best"]["metrics"]["val/rmse"]
    assert evaluated["val/rmse"] == pytest.approx(best, rel=1e-6)
