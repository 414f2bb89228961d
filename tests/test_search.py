import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import FAKES, QUICK, QUIET, ROOT

LR = "model.optimizer.lr"
RATES = ("hparams_search=learning_rate", "search.name=rates")
WIDTH = "model.net.width"
CONSOLE = "console.txt"


class StudyDirectory:
    """What a search left on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def trials(self) -> list[dict[str, str]]:
        """Rows of trials.csv."""
        return list(csv.DictReader((self.path / "trials.csv").read_text().splitlines()))

    @property
    def best(self) -> dict:
        """best_trial.yaml"""
        return yaml.safe_load((self.path / "best_trial.yaml").read_text())

    @property
    def log(self) -> str:
        """The log of all processes."""
        return (self.path / "search.log").read_text()

    @property
    def results(self) -> list[list[str]]:
        """State, metric and searched values of every trial."""
        told = {"trial", "epochs", "seconds", "directory", "error"}
        return [[value for key, value in row.items() if key not in told] for row in self.trials]

    def summary(self, number: int) -> dict:
        """summary.json of a trial."""
        return json.loads((self.path / f"trials/{number:04d}/summary.json").read_text())


@pytest.fixture
def search(run_entry_point, tmp_path):
    """Run `src/search.py` on the tiny network and data, with further arguments."""

    def run(*arguments, name="rates"):
        try:
            run_entry_point("search", *QUICK, QUIET, *arguments)
        except ValueError:  # of a search that made no run directory
            assert not list(tmp_path.glob("search/*/trials/*"))
        return StudyDirectory(tmp_path / "search" / name)

    return run


def categories(key, *choices):
    return f"search.space={{{key}: {{type: categorical, choices: [{','.join(choices)}]}}}}"


@pytest.mark.slow
def test_a_search_trains_networks_and_tells_the_best(search, train):
    study = search(*RATES, "search.num_trials=3")
    trials = study.trials
    assert [row["state"] for row in trials] == ["complete"] * 3
    assert len({row[LR] for row in trials}) == 3
    for number, row in enumerate(trials):
        assert row["directory"] == f"trials/{number:04d}"
        directory = study / row["directory"]
        assert {"config.yaml", "metrics.csv", "train.log"} <= {p.name for p in directory.iterdir()}
        config = yaml.safe_load((directory / "config.yaml").read_text())
        assert config["model"]["optimizer"]["lr"] == float(row[LR])
        assert config["paths"]["output_dir"] == str(directory)
        summary = study.summary(number)
        assert summary["status"] == "finished"
        assert summary["best"]["metrics"]["val/acc"] == float(row["val/acc"])
    best = study.best
    assert best["val/acc"] == max(float(row["val/acc"]) for row in trials)
    assert (study / "history.png").read_bytes().startswith(b"\x89PNG")
    assert "Trials: 3 complete" in study.log
    again = train(*(text for text in best["overrides"] if not text.startswith("paths.")))
    assert again.summary["best"]["metrics"]["val/acc"] == best["val/acc"]


def test_trials_are_counted_over_all_starts(search):
    assert len(search(*RATES, "search.num_trials=1").trials) == 1
    study = search(*RATES, "search.num_trials=2")
    assert len(study.trials) == 2
    (study / "best_trial.yaml").unlink()
    assert len(search(*RATES, "search.num_trials=0").trials) == 2
    assert study.best["trial"] in (0, 1)


def test_a_search_without_a_trial_reports_that(search, tmp_path):
    study = search(*RATES, "search.num_trials=0")
    assert "Trials: none" in study.log
    assert study.trials == []


@pytest.mark.slow
def test_a_database_keeps_a_study_too(search, tmp_path):
    storage = f"search.storage=sqlite:///{tmp_path / 'search.db'}"
    search(*RATES, storage, "search.num_trials=1", "trainer.max_epochs=1")
    study = search(*RATES, storage, "search.num_trials=2", "trainer.max_epochs=1")
    assert [row["state"] for row in study.trials] == ["complete"] * 2
    assert not (study / "journal.log").exists()


@pytest.mark.slow
def test_equal_seeds_choose_equal_values(search):
    short = ("search.num_trials=3", "trainer.max_epochs=1", "hparams_search=learning_rate")
    studies = [
        search(*short, f"search.name={name}", f"search.seed={seed}", name=name)
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    ]
    first, again, other = (study.results for study in studies)
    assert first == again
    assert first != other


@pytest.mark.slow
def test_options_of_a_group_can_be_searched(search):
    space = (categories("model", "tiny", "wider"), "search.name=nets")
    study = search(*space, "search.num_trials=4", "trainer.max_epochs=1", name="nets")
    assert {row["model"] for row in study.trials} == {"tiny", "wider"}
    widths = {"tiny": 8, "wider": 12}
    for row in study.trials:
        config = yaml.safe_load((study / row["directory"] / "config.yaml").read_text())
        assert config["model"]["net"]["width"] == widths[row["model"]]


@pytest.mark.slow
def test_a_trial_that_is_not_promising_is_pruned(search):
    eager = ("search.pruner.n_startup_trials=1", "search.pruner.n_warmup_steps=0")
    study = search(*RATES, *eager, "search.num_trials=5", "trainer.max_epochs=4")
    pruned = [row for row in study.trials if row["state"] == "pruned"]
    assert pruned, "else this test tests nothing"
    for row in pruned:
        summary = study.summary(int(row["trial"]))
        assert summary["status"] == "pruned"
        assert summary["epochs"] == int(row["epochs"]) < 4
        assert summary["test"] == {}
    assert len(study.trials) == 5


@pytest.mark.slow
def test_a_trial_that_diverges_is_pruned_and_does_not_stop_the_search(search):
    space = (categories(LR, "1e30"), "search.name=high")
    error = ("search.metric=val/loss", "search.direction=min")
    study = search(*space, *error, "search.num_trials=4", "trainer.max_epochs=1", name="high")
    assert [row["state"] for row in study.trials] == ["pruned"] * 4


def test_a_failing_trial_is_recorded_and_the_search_goes_on(search):
    space = (categories(WIDTH, "12", "0", "8"), "search.name=widths")
    study = search(*space, "search.num_trials=2", "trainer.max_epochs=1", name="widths")
    failed = [row for row in study.trials if row["state"] == "fail"]
    assert failed, "else this test tests nothing"
    for row in failed:
        assert row[WIDTH] == "0"
        assert row["error"] == "model.net: `width` must be positive; got 0. Use 8."
        assert study.summary(int(row["trial"]))["status"] == "failed"
    assert sum(row["state"] == "complete" for row in study.trials) == 2


def test_three_failures_in_a_row_stop_the_search(search, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        search(categories(WIDTH, "0"), "search.name=widths")
    assert exit_.value.code == 1
    told = capsys.readouterr().err
    assert "got 3 failures in a row, the last one: model.net: `width` must be positive" in told
    assert "Traceback" not in told
    study = StudyDirectory(tmp_path / "search" / "widths")
    assert [row["state"] for row in study.trials] == ["fail"] * 3


@pytest.mark.slow
def test_an_interrupted_search_continues_where_it_stopped(search, tmp_path, monkeypatch):
    ended = ("callbacks=ended", "callbacks.ended.how=interrupt", "trainer.max_epochs=4")
    command = (*RATES, *ended, "search.num_trials=2")
    with pytest.raises(SystemExit):
        search(*command)
    study = StudyDirectory(tmp_path / "search" / "rates")
    assert [row["state"] for row in study.trials] == ["running"]
    assert study.summary(0)["status"] == "interrupted"
    monkeypatch.setenv("SPARED", "1")
    search(*command)
    assert [row["state"] for row in study.trials] == ["complete"] * 2
    assert (study / "trials/0000/resumes.yaml").is_file()
    assert not (study / "trials/0001/resumes.yaml").exists()
    whole = search(*command, "search.name=whole", name="whole")
    assert study.results == whole.results
    for number in (0, 1):
        metrics = f"trials/{number:04d}/metrics.csv"
        assert (study / metrics).read_text() == (whole / metrics).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search.num_trials=-1"], "`search.num_trials` must be a whole number of at least 0"),
        (["search.timeout=0"], "`search.timeout` must be a number of seconds above 0, or null"),
        (["search.direction=up"], "`search.direction` must be max or min; got 'up'"),
        (["search.metric=test/acc"], "`search.metric` must be a metric of the validation"),
        (["search.name=''"], "`search.name` must be a name; got ''"),
        (["search.storage=3"], "`search.storage` must be the path of a journal, the URL"),
        (["resume=here"], "`resume` has no place in a search"),
        (["trainer.devices=2"], "`trainer.devices` must be one device"),
        ([], "`search.space` must hold the values to try, by config key"),
        ([categories("lr", "1")], "search.space, lr: the key must stand in the config"),
        ([RATES[0], "search.sampler._target_=optuna.Random"], "optuna.Random"),
        ([RATES[0], "search.metric=val/f1"], "must be a metric of the validation; got 'val/f1'"),
    ],
)
def test_errors_are_one_message(search, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_:
        search("search.name=rates", *arguments)
    assert exit_.value.code == 1
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_a_study_keeps_its_settings(search, capsys):
    search(*RATES, "search.num_trials=1", "trainer.max_epochs=1")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        search(*RATES, "search.num_trials=2", "trainer.max_epochs=2")
    assert "got trainer.max_epochs: 2 instead of 1." in capsys.readouterr().err


def test_a_missing_package_is_told(search, capsys, monkeypatch):
    monkeypatch.setattr("src.search.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        search(*RATES)
    assert 'Run `pip install -e ".[search]"`' in capsys.readouterr().err


def start(log_dir: Path, *arguments: str) -> subprocess.Popen:
    """Start a search of six trials as a user does."""
    variables = os.environ | {"PYTHONPATH": str(FAKES), "OMP_NUM_THREADS": "1"}
    variables.pop("PL_GLOBAL_SEED", None)
    command = [sys.executable, "src/search.py", f"--config-dir={FAKES / 'configs'}"]
    command += [*QUICK, QUIET, *RATES, "search.num_trials=6"]
    log_dir.mkdir(exist_ok=True)
    with (log_dir / CONSOLE).open("a") as console:
        return subprocess.Popen(
            [*command, *arguments, f"paths.log_dir={log_dir}"],
            cwd=ROOT,
            env=variables,
            stdout=console,
            stderr=subprocess.STDOUT,
        )


def assert_ends(process: subprocess.Popen, log_dir: Path) -> None:
    assert process.wait() == 0, (log_dir / CONSOLE).read_text()


def assert_done_once(study: StudyDirectory) -> None:
    """Six trials, each trained from start to end in one directory."""
    assert [row["trial"] for row in study.trials] == [str(number) for number in range(6)]
    assert {row["state"] for row in study.trials} == {"complete"}
    assert len(list(study.path.glob("trials/*"))) == 6
    for number in range(6):
        epochs = (study / f"trials/{number:04d}/metrics.csv").read_text().count("\n")
        assert epochs == (study / "trials/0000/metrics.csv").read_text().count("\n")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_search_loses_no_trial_and_repeats_none(tmp_path, workers):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    study = StudyDirectory(killed / "search" / "rates")
    loaders = f"data.num_workers={workers}"
    for trial in (0, 1, 3):
        process = start(killed, loaders)
        while not (study / f"trials/{trial:04d}/checkpoints/last.ckpt").is_file():
            assert process.poll() is None, (killed / CONSOLE).read_text()
            time.sleep(0.02)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert_ends(start(killed, loaders), killed)
    assert_done_once(study)
    assert_ends(start(whole, loaders), whole)
    assert study.results == StudyDirectory(whole / "search" / "rates").results


@pytest.mark.slow
def test_two_processes_share_the_trials(tmp_path):
    for process in [start(tmp_path), start(tmp_path)]:
        assert_ends(process, tmp_path)
    study = StudyDirectory(tmp_path / "search" / "rates")
    assert_done_once(study)
    assert not list(study.path.glob("trials/*/resumes.yaml"))
    assert study.log.count("Trials: 6 complete") == 2


@pytest.mark.slow
def test_the_help_needs_no_heavy_imports():
    code = (
        "import sys; sys.argv = ['src/search.py', '--help']; import src.search as s\n"
        "try: s.main()\n"
        "finally: assert not {'torch', 'lightning', 'optuna', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "num_trials: 20" in done.stdout
