import pytest
from report_fakes import write_measures, write_run

from src.errors import UserError
from src.reports.reading import read_all
from src.reports.unfinished import find_unfinished


def test_runs_are_found_at_any_depth_and_once(tmp_path):
    first = write_run(tmp_path / "one" / "two" / "first")
    second = write_run(tmp_path / "second")
    for no_run in (
        first / "wandb" / "files",
        tmp_path / ".jobs" / "x",
        tmp_path / "replaced" / "x",
    ):
        write_run(no_run)
    (tmp_path / "again").symlink_to(tmp_path / "one")
    found = read_all([tmp_path, second, tmp_path / "one"])
    assert {run.directory.resolve() for run in found.runs} == {first.resolve(), second}
    assert len(found.runs) == 2


def test_curves_are_by_epochs_trained_with_the_last_value_of_each(tmp_path):
    directory = write_run(tmp_path / "run")
    table = "epoch,step,epochs_trained,val/acc,d/e\n0,0,0.0,,0.5\n"
    (directory / "metrics.csv").write_text(table + "0,3,,0.1,\n0,6,,0.25,\n1,9,2.0,,0\n")
    (run,) = read_all([directory]).runs
    assert run.curve("d/e").to_dict() == {0: 0.5, 2: 0.0}
    assert run.curve("val/acc").to_dict() == {1: 0.25}
    assert run.curve_names() == {"val/acc", "d/e"}


def test_measures_are_of_the_best_checkpoint_or_else_of_the_last(tmp_path):
    directory = write_run(tmp_path / "run")
    write_measures(directory)
    path = directory / "checkpoints" / "measures.json"
    both = path.read_text()[:-1] + ', "last.ckpt": {"measures": {}}}'
    for text, number in ((both, 3), (both.replace("best", "epoch_1"), 0)):
        path.write_text(text)
        (run,) = read_all([directory]).runs
        assert len(run.measures) == number


@pytest.mark.parametrize(
    "name, text",
    [
        ("summary.json", '{"status": "fin'),
        ("summary.json", "[1]"),
        ("summary.json", '{"status": "finished", "seed": null}'),
        ("config.yaml", "a: [1"),
        ("metrics.csv", "epoch,step,val/acc\n0,1,abc\n"),
        ("overrides.yaml", "3"),
        ("environment.json", "\x00"),
        ("sweep.json", '{"jobs": [{"directory": "a"}]}'),
        ("checkpoints/measures.json", '{"best.ckpt": {"measures": {"hessian": {"values": {}}}}}'),
    ],
)
def test_damaged_runs_are_listed_and_the_others_read(tmp_path, name, text):
    damaged = write_run(tmp_path / "damaged", seed=1)
    (damaged / "checkpoints").mkdir()
    (damaged / name).write_text(text)
    if "null" in text:
        (damaged / "config.yaml").write_text("task_name: train\n")
    write_run(tmp_path / "sound")
    found = read_all([tmp_path])
    assert [run.directory.name for run in found.runs] == ["sound"]
    assert list(found.damaged) == [damaged]
    (entry,) = find_unfinished(found)
    assert entry.status == "damaged" and entry.error


def test_folders_that_cannot_be_reported_are_refused(tmp_path):
    for folder, match in (("no", "must be a directory of a run or"), (".", "must be a run below")):
        with pytest.raises(UserError, match=match):
            read_all([tmp_path / folder])
