import math

import pytest
from report_fakes import forecast_scores, stored_run

from src.errors import UserError
from src.reports.grouping import group_runs
from src.reports.results import (
    Results,
    against,
    complete,
    configs,
    find_row,
    overview,
    paired,
    per_step,
)

RMSE = {("A", 0): (0.5, 0.7), ("A", 4): (1.0, 1.2), ("B", 4): (2.0,)}


def test_an_overview_has_one_line_and_a_table_against_a_key_one_cell_per_config():
    runs = [
        stored_run(network, seed, {"test/rmse": value}, data__level=level)
        for (network, level), values in RMSE.items()
        for seed, value in enumerate(values)
    ]
    failed = stored_run("B", 1, {"test/rmse": 9.0}, data__level=4, status="failed")
    results = Results(group_runs([*runs, failed]))
    assert [line[:1] + line[4:] for line in overview(results, ["test/rmse"]).rows] == [
        ["A, level=0", "0, 1", "0.60 ± 0.14"],
        ["A, level=4", "0, 1", "1.10 ± 0.14"],
        ["B, level=4", "0", "2"],
    ]
    table = against(results, "data.level", "level", ["test/rmse"])
    assert (table.name, table.columns) == ("by_level", ["metric", "runs", "level=0", "level=4"])
    assert table.rows == [
        ["test/rmse", "A", "0.60 ± 0.14", "1.10 ± 0.14"],
        ["test/rmse", "B", "-", "2"],
    ]


def test_only_equal_seeds_are_subtracted_from_the_baseline():
    values = {
        "A": {0: 0.5, 1: 1.0, 2: 3.0, 4: 1.0},
        "B": {0: 1.0, 1: 2.0, 2: math.nan, 5: 1.0, 6: math.inf},
        "C": {9: 1.0},
    }
    acc = {(n, seed): {"test/acc": value} for n in values for seed, value in values[n].items()}
    found = Results(group_runs([stored_run(*run, value) for run, value in acc.items()]))
    for baseline, pair, mean in ((None, "B − A", "0.75"), ("B", "A − B", "-0.75")):
        (table,) = paired(found, find_row(found.groups, baseline), ["test/acc", "test/step_time"])
        ((name, difference, n, shown, interval, left_out),) = table.rows
        assert (name, difference, n, shown) == ("test/acc", pair, "2", mean)
        # 0.75 ± t 0.354 / √2 with t = 12.7
        assert interval in ("[-2.43, 3.93]", "[-3.93, 2.43]") and left_out == "2, 4, 5, 6"
    assert paired(found, find_row(found.groups, "C"), ["test/acc"]) == []
    with pytest.raises(UserError, match=r"--baseline.*'D'. Use one of: 'A'; 'B'; 'C'"):
        find_row(found.groups, "D")


def test_two_sizes_of_the_training_set_are_never_one_row():
    """Also where both were made by one command, and the number is not part of the label."""
    runs = [
        stored_run("CNN", seed, {"test/acc": size / 10000}, data__num_train=size)
        for size in (500, 3500)
        for seed in (0, 1)
    ]
    groups = group_runs(runs)
    table = overview(Results(groups), ["test/acc"])
    assert [(line[0], line[-1]) for line in table.rows] == [
        ("num_train=500", "0.05 ± 0"),
        ("num_train=3500", "0.35 ± 0"),
    ]
    listed = configs(groups)
    assert listed.columns == ["runs", "data.num_train"]
    assert listed.rows == [["num_train=500", "500"], ["num_train=3500", "3500"]]


def test_times_have_no_interval():
    timed = {"test/acc": 0.5, "dynamics/step_time": 0.1}
    runs = [stored_run("CNN", seed, {k: v + seed for k, v in timed.items()}) for seed in (0, 1)]
    tables = complete(Results(group_runs(runs)), list(timed))
    assert [line[-1] != "-" for table in tables for line in table.rows] == [True, False]


def forecasts(**changes):
    """Two networks with two seeds each, on plumes of two levels."""
    return Results(
        group_runs(
            [
                stored_run(n, seed, forecast_scores(e + seed / 9, level), data__level=level, **more)
                for n, e in (("A", 0.1), ("B", 0.2))
                for level in (0, 4)
                for seed in (0, 1)
                for more in ([{key: v} for key, values in changes.items() for v in values] or [{}])
            ]
        )
    )


def test_tables_of_forecasts_have_both_baselines_as_rows():
    results = forecasts()
    persistence = forecast_scores(level=4)["test/rmse_persistence"]
    lines = {line[0]: line[1:] for line in overview(results, ["test/rmse", "test/nrmse"]).rows}
    assert lines["last frame repeated, level=4"] == [
        *("0", "-", "-", "-", f"{persistence:.4g}", "-"),
    ]
    assert list(lines)[-2:] == [f"linear extrapolation, level={level}" for level in (0, 4)]
    (table,) = complete(results, ["test/nrmse", "test/rmse"])
    assert [line[0] for line in table.rows] == ["test/nrmse"] * 4 + ["test/rmse"] * 8
    assert table.rows[-1][2] == table.rows[-1][4] == table.rows[-1][5] == "-"
    table = against(results, "data.level", "level", ["test/rmse", "test/nrmse"])
    names = ["A", "B", "last frame repeated", "linear extrapolation"]
    assert [line[1] for line in table.rows] == [*names, "A", "B"]
    assert table.rows[2][3] == f"{persistence:.4g}"


@pytest.mark.parametrize("key", ["model__alpha", "data__train_horizon"])
def test_a_baseline_is_the_same_at_every_value_of_what_changes_no_test(key):
    table = against(forecasts(**{key: (1, 2)}), key.replace("__", "."), "k", ["test/rmse"])
    labels = [line[1] for line in table.rows]
    assert labels[:4] == ["A, level=0", "A, level=4", "B, level=0", "B, level=4"]
    assert labels[4::2] == ["last frame repeated, level=0", "linear extrapolation, level=0"]
    assert all(line[2] == line[3] != "-" for line in table.rows[4:])


def test_skill_is_shown_at_the_first_trained_and_last_step():
    results = forecasts()
    names = [f"test/skill/{step:02d}" for step in range(1, 9)]
    table = per_step(results, names)
    assert table.columns == ["runs", "test/skill/01", "test/skill/06", "test/skill/08"]
    assert len(table.rows) == 8
    best = [max(float(line[1]) for line in table.rows[4 + level :: 2]) for level in (0, 1)]
    assert best == [0, 0]  # the better baseline
    assert per_step(results, names[:2]).columns[1:] == names[:2]


def test_forecasts_of_other_test_data_are_not_subtracted():
    (table,) = paired(forecasts(), None, ["test/rmse"])
    assert [line[1] for line in table.rows] == [f"B, level={v} − A, level={v}" for v in (0, 4)]
