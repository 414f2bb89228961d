import csv
import signal
import time

import pytest
import yaml

from src.searches import search as searching
from tests.conftest import QUICK, QUIET, RunDirectory
from tests.helpers.processes import end, start

LR, WIDTH = "model.optimizer.lr", "model.net.width"
RATES = "hparams_search=learning_rate"
SHORT, SCORE = "trainer.max_epochs=1", "val/acc_reestimated"
pytestmark = pytest.mark.slow


class Study(RunDirectory):
    log = property(lambda study: study._read("search.log"))
    trials = property(lambda study: list(csv.DictReader(study._read("trials.csv").splitlines())))
    states = property(lambda study: [row["state"] for row in study.trials])

    def run(self, number):
        return RunDirectory(self / f"trials/{int(number):04d}")


@pytest.fixture
def search(run_entry_point, tmp_path):
    def run(*arguments):
        run_entry_point("search", *QUICK, QUIET, *arguments, "search.name=rates")
        return Study(tmp_path / "search" / "rates")

    return run


def categories(key, choices):
    return f"search.space={{{key}: {{type: categorical, choices: {choices}}}}}"


def test_a_search_trains_networks_and_writes_the_best(search, train, monkeypatch):
    numbers = []
    monkeypatch.setattr(searching, "spread", lambda config, number: numbers.append(number))
    assert search(RATES, "search.num_trials=2").states == ["complete"] * 2
    study = search(RATES, "search.num_trials=3")  # counted over all starts
    trials = study.trials
    assert (study.states, numbers) == (["complete"] * 3, [0, 1, 2])
    assert len({row[LR] for row in trials}) == 3
    for number, row in enumerate(trials):
        run = study.run(number)
        assert row["directory"] == f"trials/{number:04d}"
        assert {"config.yaml", "metrics.csv", "train.log"} <= {p.name for p in run.path.iterdir()}
        assert run.config["model"]["optimizer"]["lr"] == float(row[LR])
        assert run.config["paths"]["output_dir"] == str(run.path)
        assert run.summary["status"] == "finished"
        assert run.summary["best"]["metrics"][SCORE] == float(row[SCORE])
    best = yaml.safe_load((study / "best_trial.yaml").read_text())
    assert best[SCORE] == max(float(row[SCORE]) for row in trials)
    (study / "best_trial.yaml").rename(study / "before")
    search(RATES, "search.num_trials=0")  # only reports
    assert (study / "best_trial.yaml").read_text() == (study / "before").read_text()
    assert study.log.count("Trials: 3 complete") == 2
    again = train(*(text for text in best["overrides"] if not text.startswith("paths.")))
    assert again.summary["best"]["metrics"][SCORE] == best[SCORE]


def test_a_database_keeps_a_study_of_options_and_its_settings(search, refused, tmp_path):
    database = f"search.storage=sqlite:///{tmp_path / 'search.db'}"
    command = (categories("model", "[tiny,wider]"), database, SHORT)
    search(*command, "search.num_trials=1")
    study = search(*command, "search.num_trials=3")
    assert study.states == ["complete"] * 3
    assert not (study / "journal.log").exists()
    for row in study.trials:
        width = study.run(row["trial"]).config["model"]["net"]["width"]
        assert width == {"tiny": 8, "wider": 12}[row["model"]]
    changed = (*QUICK, QUIET, *command, "trainer.max_epochs=2", "search.name=rates")
    assert "got trainer.max_epochs: 2 instead of 1." in refused("search", *changed)[0]


def test_a_trial_that_is_not_promising_is_pruned(search):
    eager = ("search.pruner.n_startup_trials=1", "search.pruner.n_warmup_steps=0")
    study = search(RATES, *eager, "search.num_trials=5", "trainer.max_epochs=4")
    pruned = [row for row in study.trials if row["state"] == "pruned"]
    assert pruned, "else this test tests nothing"
    for row in pruned:
        summary = study.run(row["trial"]).summary
        assert (summary["status"], summary["test"]) == ("pruned", {})
        assert summary["epochs"] == int(row["epochs"]) < 4
    assert len(study.trials) == 5


def test_a_failing_trial_is_recorded_and_three_in_a_row_stop_the_search(search, refused, tmp_path):
    study = search(categories(WIDTH, "[12,0,8]"), "search.num_trials=2", SHORT)
    failed = [row for row in study.trials if row["state"] == "fail"]
    assert failed, "else this test tests nothing"
    refusal = "model.net: `width` must be positive; got 0. Use 8."
    for row in failed:
        assert (row[WIDTH], row["error"]) == ("0", refusal)
        assert study.run(row["trial"]).summary["status"] == "failed"
    assert study.states.count("complete") == 2
    none = (*QUICK, QUIET, categories(WIDTH, "[0]"), "search.name=none")
    assert f"3 failures in a row, the last one: {refusal[:40]}" in refused("search", *none)[0]
    assert Study(tmp_path / "search" / "none").states == ["fail"] * 3


FOUR = (*QUICK, RATES, "search.name=rates", "search.num_trials=4", "callbacks=ended")
FOUR += ("callbacks.ended.how=interrupt", "callbacks.ended.epoch=1")


def test_a_search_loses_no_trial_and_repeats_none(tmp_path):
    """One that is interrupted and, with workers, killed gives what two processes together give."""
    cut, shared = (Study(tmp_path / name / "search" / "rates") for name in ("cut", "shared"))
    folder = tmp_path / "cut"
    end(start("search", folder, *FOUR), folder, code=130)
    assert (cut.states, cut.run(0).summary["status"]) == (["running"], "interrupted")
    process = start("search", folder, *FOUR, "data.num_workers=1", SPARED="1")
    while not (cut / "trials/0002/checkpoints/last.ckpt").is_file():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    end(process, folder, code=-signal.SIGKILL)
    end(start("search", folder, *FOUR, SPARED="1"), folder)
    folder = tmp_path / "shared"
    for process in [start("search", folder, *FOUR, SPARED="1") for _ in range(2)]:
        end(process, folder)
    assert shared.log.count("Trials: 4 complete") == 2
    for study, resumed in ((cut, ["0000", "0002"]), (shared, [])):
        assert sorted(p.parent.name for p in study.path.glob("trials/*/resumes.yaml")) == resumed
        assert len(list(study.path.glob("trials/*"))) == 4
        assert [row["trial"] for row in study.trials] == ["0", "1", "2", "3"]
        assert study.states == ["complete"] * 4
    trials = [[row | {"seconds": ""} for row in study.trials] for study in (cut, shared)]
    assert trials[0] == trials[1]
    assert all(cut.run(number).metrics == shared.run(number).metrics for number in range(4))
