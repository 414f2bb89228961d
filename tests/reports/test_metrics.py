"""What a run reached, and which of it is shown."""

import pytest
from report_fakes import write_measures, write_run

from src.errors import UserError
from src.reports.metrics import SHOWN, check_patterns, choose, families, final_metrics
from src.reports.reading import read_run

NAMES = ("test/rmse", "test/rmse/01", "val/acc", "train/loss", "dynamics/e", "dynamics/e/blocks.0")
NAMES += ("measures/projection/test/acc",)


def test_validation_is_of_the_tested_epoch_and_dynamics_of_the_last(tmp_path):
    directory = write_run(tmp_path / "run", accuracy=None)
    write_measures(directory)
    found = final_metrics(read_run(directory))
    assert found["val/acc"] == 0.6
    assert found["dynamics/relaxed_weight_error"] == 0.2
    assert found["test/acc"] is None
    assert found["measures/hessian_max"] == 2.5
    assert found["measures/sharpness"] is None


def test_parts_of_metrics_are_shown_when_asked_for():
    shown = ["test/rmse", "val/acc", "dynamics/e", "measures/projection/test/acc"]
    assert choose(NAMES, None, SHOWN) == shown
    assert choose(NAMES, ["test/*", "dynamics/e/blocks.0"], SHOWN) == [
        "test/rmse",
        "test/rmse/01",
        "dynamics/e/blocks.0",
    ]
    assert list(families(shown)) == ["results", "dynamics", "measures"]


def test_metrics_that_no_run_has_are_refused():
    check_patterns(NAMES, ["test/*"])
    with pytest.raises(UserError, match=r"got 'test/rmze'\. Use test/rmse"):
        check_patterns(NAMES, ["test/rmze"])
