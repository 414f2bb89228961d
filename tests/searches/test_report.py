import logging

import matplotlib
import optuna
import pytest
import yaml
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from src.searches.report import best_trial, report, write_tables

LR, WIDTH = "model.optimizer.lr", "model.net.width"
DISTRIBUTIONS = {LR: FloatDistribution(0, 1), WIDTH: IntDistribution(1, 9)}
DIRECTIONS = (("direction", "best", "order"), [("minimize", 1, "1203"), ("maximize", 0, "0312")])


def study_of(*values, direction="minimize"):
    """A study with a trial for every value, and one that has failed."""
    study = optuna.create_study(direction=direction, study_name="s")
    for number, value in enumerate([*values, None] if values else []):
        options = {
            "user_attrs": {"directory": f"trials/{number:04d}"},
            "distributions": DISTRIBUTIONS,
        }
        if value is None:
            options |= {"state": TrialState.FAIL}
            options["user_attrs"]["error"] = "no, more"
        else:
            options |= {"value": value, "intermediate_values": {1: 0.5, 2: value}}
        params = {LR: (value or 0) / 4, WIDTH: number + 1}
        study.add_trial(optuna.create_trial(params=params, **options))
    return study


@pytest.mark.parametrize(*DIRECTIONS)
def test_trials_are_ranked_and_the_first_best_is_written(tmp_path, caplog, direction, best, order):
    caplog.set_level(logging.INFO)
    study = study_of(3.0, 1.0, 1.0, 3.0, direction=direction)
    assert best_trial(study).number == best
    write_tables(study, tmp_path, "val/rmse", ["model=tiny"])
    rows = (tmp_path / "trials.csv").read_text().splitlines()
    assert rows[0] == f"trial,state,val/rmse,{WIDTH},{LR},epochs,seconds,directory,error"
    assert rows[1].startswith("0,complete,3.0,1,0.75,2,0.0,trials/0000,")
    assert rows[5] == '4,fail,,5,0.0,,0.0,trials/0004,"no, more"'
    written = yaml.safe_load((tmp_path / "best_trial.yaml").read_text())
    first = study.trials[best]
    values = [f"{LR}={first.params[LR]}", f"{WIDTH}={best + 1}"]
    assert written.pop("command") == " ".join(["python src/train.py model=tiny", *values])
    assert written.pop("overrides") == ["model=tiny", *values]
    assert written == {"trial": best, "val/rmse": first.value, "directory": f"trials/000{best}"}
    settings = dict(matplotlib.rcParams)
    report(study, tmp_path, "val/rmse")
    assert "Trials: 4 complete, 1 fail" in caplog.text
    assert [row.split()[0] for row in caplog.messages[-1].splitlines()[1:]] == list(order)
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == settings


def test_a_study_without_trials_is_reported_too(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        write_tables(study_of(), tmp_path, "val/acc", [])
        report(study_of(), tmp_path, "val/acc")
    assert "Trials: none" in caplog.text
    (path,) = tmp_path.iterdir()
    assert path.name == "trials.csv" and path.read_text().startswith("trial,state,val/acc,")
