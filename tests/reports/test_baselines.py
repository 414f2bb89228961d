import pytest
import torch
from report_fakes import forecast_scores, plumes, stored_run

from src.measures import ForecastScores
from src.reports.baselines import baseline_rows
from src.reports.grouping import group_runs
from src.reports.metrics import final_metrics


def runs(levels=(0, 4), networks=("A", "B"), seeds=(0, 1), **options):
    return [
        stored_run(n, s, forecast_scores(0.1 + s, level, **options), data__level=level)
        for n in networks
        for level in levels
        for s in seeds
    ]


@pytest.mark.parametrize("prefix", ["test/", "test/beyond/"])
def test_rows_have_the_scores_of_the_forecasts_themselves(prefix):
    known, truth = plumes(4)
    steps = torch.arange(1, truth.shape[1] + 1).view(-1, 1, 1, 1)
    last, before = known[:, -1:], known[:, -2:-1]
    rows = baseline_rows(group_runs(runs(prefix=prefix)))
    found = {row.label: final_metrics(*row.runs) for row in rows}
    for name, forecast in (
        ("last frame repeated", last.expand_as(truth)),
        ("linear extrapolation", last + steps * (last - before)),
    ):
        metric = ForecastScores()
        metric.update(forecast, truth, known)
        scores = {f"{prefix}{n}": v.item() for n, v in metric.compute().items()}
        row = found[f"{name}, level=4"]
        kinds = [n for n in scores if n.removeprefix(prefix).split("/")[0] in ("rmse", "skill")]
        assert set(row) == set(kinds) and len(kinds) == 2 * 9
        assert row == pytest.approx({n: scores[n] for n in kinds}, rel=1e-5, abs=1e-6)


def test_runs_of_one_data_share_the_rows_and_others_have_their_own():
    """Also where the errors differ though no key of a label says so."""
    shorter = [stored_run("C", 0, forecast_scores(steps=7), data__level=0)]
    strict = [
        stored_run(
            "C", 0, forecast_scores() | forecast_scores(prefix="test/strict/"), data__level=0
        )
    ]
    for extra, levels in (([], ["0", "4"]), (strict, ["0", "4"]), (shorter, ["0", "4", "0 (2)"])):
        rows = baseline_rows(group_runs([*runs(), *extra]))
        names = ("last frame repeated", "linear extrapolation")
        assert [row.label for row in rows] == [f"{n}, level={v}" for n in names for v in levels]
        assert [row.config["data.level"] for row in rows[:2]] == [0, 4]


def test_one_known_frame_has_no_line_through_it_and_other_tasks_have_no_rows():
    groups = group_runs(runs(levels=(0,), num_known=1))
    (row,) = baseline_rows(groups)
    assert row.label == "last frame repeated"
    scores = final_metrics(*row.runs)
    assert scores["test/skill"] == scores["test/skill/08"] == 0
    assert baseline_rows(group_runs([stored_run(values={"test/acc": 0.5})])) == []
