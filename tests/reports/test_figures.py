import pytest
from report_fakes import forecast_scores, stored_run

from src.reports import figures
from src.reports.grouping import group_runs
from src.reports.results import Results


@pytest.mark.slow
def test_skill_has_a_panel_for_each_set_and_data_and_a_line_for_each_network(monkeypatch):
    """A network that was not run on some data has no line there."""
    cases = [("A", 0), ("A", 4), ("B", 4)]
    values = {
        c: forecast_scores(0.1, c[1]) | forecast_scores(0.2, c[1], prefix="test/x/") for c in cases
    }
    runs = [stored_run(n, s, values[n, v], data__level=v) for n, v in cases for s in (0, 1)]
    results = Results(group_runs(runs))
    drawn = {}
    plot = figures.plot_curves
    monkeypatch.setattr(
        figures, "plot_curves", lambda p, r, *a, **o: drawn.update(p, rows=r) or plot(p, r, *a, **o)
    )
    names = [f"{s}/skill/{step:02d}" for s in ("test", "test/x") for step in range(1, 9)]
    (picture,) = figures.against_steps(results, names, "interval", "skill")
    assert picture.name == "skill" and picture.caption.startswith("Against steps ahead.")
    assert [row.label for row in drawn.pop("rows")] == ["A", "B"]
    assert list(drawn) == [f"{s}/skill, level={v}" for s in ("test", "test/x") for v in (0, 4)]
    assert [len(c.seeds) for panel in drawn.values() for c in panel] == [2, 0, 2, 2, 2, 0, 2, 2]
    for seed in drawn["test/x/skill, level=4"][1].seeds:
        expected = {step: values["B", 4][f"test/x/skill/{step:02d}"] for step in range(1, 9)}
        assert seed.to_dict() == expected
