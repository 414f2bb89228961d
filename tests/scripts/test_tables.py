"""The tables of README, from run directories made up here."""

import json

import pytest

from scripts import results_table, smoke_table

ERROR = "dynamics/equivariance_error"


@pytest.fixture
def write_run(tmp_path):
    def write(network, seed, test, level=None, status="finished"):
        directory = tmp_path / f"{network}-{seed}-{level}"
        directory.mkdir()
        summary = {
            "status": status,
            "task": "train",
            "seed": seed,
            "num_parameters": 1000,
            "test": test,
            "start": {ERROR: 1e-7},
            "last": {"metrics": {ERROR: 0.25}},
        }
        (directory / "summary.json").write_text(json.dumps(summary))
        data = "{}" if level is None else f"{{level: {level}}}"
        config = f"model: {{net: {{_target_: some.where.{network}}}}}\ndata: {data}\n"
        (directory / "config.yaml").write_text(config)
        (directory / "metrics.csv").write_text("epoch,val/acc\n0,0.5\n")
        return tmp_path

    return write


def test_accuracies_are_averaged_over_seeds_best_first(write_run):
    for network, seed, accuracy in (("A", 0, 0.5), ("A", 1, 0.7), ("B", 0, 0.9)):
        folder = write_run(network, seed, {"test/acc": accuracy})
    write_run("B", 1, {"test/acc": 0.0}, status="failed")
    runs = results_table.find_runs([folder], "test/acc")
    lines = results_table.table(runs).splitlines()
    assert "| A | 1,000 | 0, 1 | 60.00 ± 14.14 | 1e-07 | 0.2500 ± 0.0000 |" in lines
    assert "| B | 1,000 | 0 | 90.00 | 1e-07 | 0.2500 |" in lines
    assert runs["A"][0].curve("val/acc") == {1: 0.5}


def test_forecasts_have_a_column_per_level_and_the_baseline(write_run):
    for network, seed, level, rmse in (("A", 0, 4, 0.5), ("A", 1, 4, 0.7), ("B", 0, 9, 0.25)):
        test = {"test/rmse": rmse, "test/rmse_persistence": 0.1 * level}
        folder = write_run(network, seed, test, level)
    cells = smoke_table.by_level([folder])
    assert smoke_table.rmse_table(cells).splitlines()[2:] == [
        "| A | 1,000 | 0, 1 | 0.600 ± 0.141 | - |",
        "| B | 1,000 | 0 | - | 0.250 |",
        "| last frame repeated | 0 | - | 0.400 | 0.900 |",
    ]
    assert smoke_table.error_table(cells).splitlines()[2:] == [
        "| A | 1e-07 | 0.25 | - |",
        "| B | 1e-07 | - | 0.25 |",
    ]


def test_folders_without_such_runs_are_told(write_run):
    folder = write_run("A", 0, {"test/rmse": 1.0})
    with pytest.raises(SystemExit, match="No finished training run with test/acc below"):
        results_table.find_runs([folder], "test/acc")
    with pytest.raises(SystemExit, match="not on data=smoke_level"):
        smoke_table.by_level([folder])
