import json

import pytest
import yaml

from src.runs.resume import taken


@pytest.fixture
def run(train):
    """A run of two epochs."""
    return train("model=wider", "seed=3")


def resume(train, run, *arguments):
    return train("model=wider", f"resume={run.path}", *arguments)


def snapshot(run):
    return {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    "argument",
    [
        "model=tiny",
        "experiment=rgcnn_rotmnist",
        "model.net.width=13",
        "data.source=other",
        "data.batch_size=9",
        "seed=4",
        "trainer.precision=64-true",
        "+model.net.num_classes=4",
        "~model.alpha",
    ],
)
def test_what_would_make_it_another_run_is_refused(train, run, capsys, argument):
    before = snapshot(run)
    with pytest.raises(SystemExit):
        resume(train, run, argument)
    told = capsys.readouterr().err
    assert f"got `{argument}`, which would make it another run" in told
    after = snapshot(run)
    for name in set(before) - {"train.log"}:
        assert before[name] == after[name], name
    assert before.keys() | {".lock"} == after.keys()


def test_what_the_run_has_may_be_repeated(train, run):
    resume(train, run, "seed=3", "model.net.width=12", "data.batch_size=8")


def test_another_directory_is_refused(train, run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        resume(train, run, f"hydra.run.dir={tmp_path / 'other'}")
    assert "continued in its own directory" in capsys.readouterr().err


def test_fewer_epochs_than_trained_are_refused(train, run, capsys):
    with pytest.raises(SystemExit):
        resume(train, run, "trainer.max_epochs=1")
    told = capsys.readouterr().err
    assert "must be at least the 2 epochs that the resumed run has trained; got 1" in told


def test_a_finished_run_is_tested_again(train, run):
    before, summary = run.metrics, run.summary
    again = resume(train, run)
    assert again.path == run.path
    assert "All 2 epochs are trained already" in again.log
    assert again.metrics == before
    changed = {key for key in summary if again.summary[key] != summary[key]}
    assert changed <= {"wall_time_s"}


def test_a_run_goes_on_for_more_epochs_also_after_another_resume(train, run):
    longer = resume(train, run, "trainer.max_epochs=4")
    assert longer.summary["epochs"] == 4
    assert "schedules over the whole run are ones of 4 epochs" in longer.log
    assert longer.config["trainer"]["max_epochs"] == 2, "config.yaml is of the first start"
    texts = [f"resume={run.path}", "trainer.max_epochs=5"]
    longest = resume(train, run, texts[1])
    assert longest.summary["epochs"] == 5
    resumes = yaml.safe_load((run / "resumes.yaml").read_text())
    assert [texts[0] in entry["overrides"] for entry in resumes] == [True, True]
    assert texts[1] in resumes[1]["overrides"]
    assert resumes[1]["environment"]["seed"] == 3
    resumed = yaml.safe_load((run / "config_resumed.yaml").read_text())
    assert resumed["trainer"]["max_epochs"] == 5


def test_the_logger_may_be_chosen_anew(train, run):
    resume(train, run, "logger=none", "trainer.max_epochs=3")
    assert not (run / "metrics.csv").read_text().count("\n2,")


def test_data_may_lie_elsewhere(train, run, tmp_path):
    resume(train, run, f"paths.data_dir={tmp_path / 'data'}", "trainer.max_epochs=3")
    resumed = yaml.safe_load((run / "config_resumed.yaml").read_text())
    assert resumed["data"]["data_dir"] == str(tmp_path / "data")


def test_a_run_killed_before_its_first_checkpoint_starts_again(train, run):
    metrics = run.metrics
    for name in ("best.ckpt", "last.ckpt"):
        (run / "checkpoints" / name).unlink()
    (run / "summary.json").unlink()
    again = resume(train, run)
    assert "starts again" in again.log
    assert again.metrics == metrics
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"


def test_a_damaged_checkpoint_is_told(train, run, capsys):
    path = run / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(SystemExit):
        resume(train, run)
    assert "last.ckpt could not be read" in capsys.readouterr().err


def test_a_run_is_continued_by_one_process_at_a_time(train, run, capsys, monkeypatch):
    monkeypatch.setattr("src.runs.resume.LOCK_SECONDS", 0.1)
    with taken(run.path), pytest.raises(SystemExit):
        resume(train, run)
    told = capsys.readouterr().err
    assert "A run must be worked on by one process at a time" in told
    resume(train, run)


def test_a_run_continued_by_other_code_says_so(train, run):
    environment = run.environment
    if environment["git"]["commit"] is None:
        pytest.skip("git tells no commit here")
    resume(train, run)
    assert "by commit" not in run.log
    environment["git"]["commit"] = "0123456789abcdef"
    (run / "environment.json").write_text(json.dumps(environment))
    resume(train, run)
    assert "The run was started by commit 0123456789 of the code" in run.log
