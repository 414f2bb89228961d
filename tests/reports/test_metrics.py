import math

import pytest
from report_fakes import write_measures, write_run

from src.errors import UserError
from src.reports.metrics import SHOWN, check_patterns, choose, families, final_metrics
from src.reports.reading import read_run

NAMES = ("measures/projection/test/acc", "test/rmse", "test/rmse/01", "val/acc", "train/loss")
NAMES += ("dynamics/e", "dynamics/e/blocks.0", "start/e", "start/e/blocks.0")


def test_validation_is_of_the_tested_epoch_and_dynamics_of_start_and_end(tmp_path):
    directory = write_run(tmp_path / "run", accuracy=None)
    write_measures(directory)
    found = final_metrics(read_run(directory))
    assert (found["val/acc"], found["train/loss"], found["test/rmse"]) == (0.6, 1.0, 2.0)
    assert found["start/relaxed_weight_error"] == 0.0
    assert found["dynamics/relaxed_weight_error"] == 0.2
    assert found["measures/hessian_max"] == 2.5
    assert math.isnan(found["test/acc"]) and math.isnan(found["measures/sharpness"])


def test_parts_of_metrics_are_shown_when_asked_for_and_unknown_ones_refused():
    shown = ["test/rmse", "val/acc", "start/e", "dynamics/e", "measures/projection/test/acc"]
    assert choose(NAMES, None, SHOWN) == shown
    named = ["test/rmse", "test/rmse/01", "dynamics/e/blocks.0"]
    assert choose(NAMES, ["dynamics/e/blocks.0", "test/*"], SHOWN) == named
    assert families(shown) == {"results": shown[:2], "dynamics": shown[2:4], "measures": shown[4:]}
    baselines = ["test/rmse_linear", "test/rmse_persistence"]  # rows of their own
    sets = ["test/rmse", "test/skill", "test/x/rmse"]
    assert choose([*sets[::-1], *baselines], None, SHOWN) == sets
    assert choose(baselines, ["test/*"], SHOWN) == baselines
    check_patterns(NAMES, ["test/*"])
    with pytest.raises(UserError, match=r"got 'test/rmze'\. Use test/rmse"):
        check_patterns(NAMES, ["test/rmze"])
