import csv

import pytest
from report_fakes import forecast_scores, write_run

from src.reports.writing import write_report


@pytest.mark.slow
def test_forecasts_of_many_rows_are_drawn_by_data_and_stand_beside_both_baselines(tmp_path):
    for level in (0, 4):
        for number in range(9):
            scores = forecast_scores(number / 9, level)
            write_run(
                tmp_path / f"{level}-{number}", f"N{number}", scores=scores, data__level=level
            )
    metrics = ["test/rmse", "test/skill", "test/skill/01", "test/skill/06", "val/acc"]
    page = write_report([tmp_path], metrics=metrics)
    text, folder = page.read_text(), page.parent
    assert text.index('id="skill"') < text.index('id="curves-level=0"') < text.index('id="results"')
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert figures >= {"skill", "against_level", "curves-level=0", "curves-level=4"}
    for name, columns in (("overview", metrics[:2]), ("skill", metrics[2:4])):
        lines = (folder / "tables" / f"{name}.csv").read_text().splitlines()
        *_, last = csv.DictReader(lines)
        assert last["runs"] == "linear extrapolation, level=4"
        assert all(last[column] not in ("", "-") for column in columns)
