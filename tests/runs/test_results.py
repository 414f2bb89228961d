import logging
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.errors import UserError
from src.runs.results import log_results, optimized_value
from src.runs.run import Run

BEST = {"epochs_trained": 2, "metrics": {"val/acc": 0.9, "train/loss": 0.1}}
LAST = {"epochs_trained": 3, "metrics": {"val/acc": 0.8}}


def value(name, best=BEST):
    run = Run(OmegaConf.create({"optimized_metric": name}), Path())
    run.summary = {"best": best, "last": LAST, "test": {"test/acc": 0.7}}
    return optimized_value(run)


def test_a_sweeper_gets_the_metric_of_the_best_epoch_or_of_the_test():
    assert value(None) is None
    assert value("val/acc") == 0.9
    assert value("val/acc", best={}) == 0.8
    assert value("test/acc") == 0.7


def test_an_unknown_metric_is_told():
    with pytest.raises(UserError, match=r"got 'val/f1'.* test/acc, train/loss, val/acc"):
        value("val/f1")


def test_the_table_has_the_ends_of_a_series_of_metrics(caplog):
    run = Run(OmegaConf.create({"seed": 0}), Path("a_run"))
    run.summary = {"num_parameters": 1234}
    metrics = {f"test/{part}rmse/{t:02d}": t / 10 for part in ("", "domain/") for t in range(1, 21)}
    metrics |= {"test/rmse": 0.7, "test/domain/rmse": 0.8, "val/rmse": 0.6, "test/acc/2": 0.5}
    before = dict(metrics)
    with caplog.at_level(logging.INFO, logger="src.runs.results"):
        log_results(run, {"best epoch (3)": metrics, "last epoch (4)": {"val/rmse": 0.65}})
    rows = [line.split()[1] for line in caplog.text.splitlines() if line.startswith("│")]
    assert rows == [
        "val/rmse",
        "test/acc/2",
        "test/domain/rmse",
        "test/domain/rmse/01",
        "test/domain/rmse/20",
        "test/rmse",
        "test/rmse/01",
        "test/rmse/20",
    ]
    assert metrics == before


FORECASTS = (
    *("model=forecaster", "data=windows", "trainer=cpu", "logger=csv"),
    "trainer.enable_progress_bar=false",
)
MONITOR = ("callbacks.checkpoint.monitor=val/rmse", "callbacks.checkpoint.mode=min")


@pytest.mark.slow
def test_networks_that_forecast_are_trained_tested_and_evaluated(run_entry_point):
    """With two test loaders: all metrics, pictures, the best epoch by its error, a round trip."""
    trained = run_entry_point(
        "train",
        *FORECASTS,
        *("callbacks=smoke", "trainer.max_epochs=3", "optimized_metric=test/domain/rmse"),
    )
    tested = trained.summary["test"]
    assert {"test/rmse", "test/rmse/05", "test/domain/rmse", "test/domain/rmse_persistence"} <= set(
        tested
    )
    assert "│ test/domain/rmse " in trained.log
    assert "val/rmse" in trained.log
    assert "test/rmse/03" not in trained.log
    assert trained.summary["start"]["dynamics/equivariance_error"] > 1e-3
    assert {"forecast.png", "forecast.gif"} <= {p.name for p in (trained / "images").iterdir()}
    checkpoint = f"ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"
    for split, names in (("test", set(tested)), ("val", {"val/rmse/03", "val/rmse"})):
        evaluated = run_entry_point("eval", checkpoint, f"split={split}").summary["metrics"]
        assert names <= set(evaluated)
        if split == "test":
            assert evaluated == tested
        else:
            best = trained.summary["best"]["metrics"]["val/rmse"]
            assert evaluated["val/rmse"] == pytest.approx(best, rel=1e-6)


@pytest.mark.slow
def test_a_resumed_forecast_ends_as_an_uninterrupted_one(run_entry_point):
    quick = (*FORECASTS, "callbacks=minimal", *MONITOR)
    whole = run_entry_point("train", *quick, "trainer.max_epochs=3")
    short = run_entry_point("train", *quick, "trainer.max_epochs=1")
    resumed = run_entry_point("train", f"resume={short.path}", "trainer.max_epochs=3")
    assert resumed.summary["test"] == whole.summary["test"]
