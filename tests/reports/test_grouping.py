import pytest
from report_fakes import stored_run, write_run

from src.errors import UserError
from src.reports.grouping import group_runs, lines_against, swept_keys
from src.reports.reading import read_run


def rows(runs, keys=None):
    return {group.label: list(group.finished) for group in group_runs(runs, keys)}


def test_seeds_of_one_config_share_a_row_wherever_they_lie():
    runs = [stored_run(network, seed) for network in ("GCNN", "CNN") for seed in (2, 0, 1)]
    assert rows(runs) == {"CNN": [0, 1, 2], "GCNN": [0, 1, 2]}
    assert rows(runs[:3]) == {"GCNN": [0, 1, 2]}


def test_any_difference_but_the_seed_and_what_follows_it_splits_a_row():
    for key, values, lengths in (
        ("model__alpha", [None, None, 0.1], [1, 2]),
        ("model__alpha", [None, None, False], [1, 2]),
        ("model__alpha", [1, 1.0], [2]),
        ("model__net", [None, None, {"_target_": "other.place.CNN"}], [1, 2]),
        ("data__batch_size", [None, None, 16], [1, 2]),
        ("data__split", [None, None, [0, 1]], [1, 2]),
        ("data__new", [None, None, "not set"], [1, 2]),
        ("data__seed", [0, 0], [2]),
        ("data__seed", [0, 1], [2]),
        ("data__seed", [0, 1, 0], [1, 2]),
    ):
        changes = [{} if value is None else {key: value} for value in values]
        runs = [stored_run(seed=seed, **change) for seed, change in enumerate(changes)]
        assert sorted(map(len, rows(runs).values())) == lengths, (key, values)


def test_circumstances_do_not_split_rows_unless_named():
    key = "trainer.accelerator"
    runs = [stored_run(seed=seed, trainer__accelerator=d) for seed, d in enumerate(("cpu", "gpu"))]
    assert rows(runs) == {"CNN": [0, 1]}
    assert rows(runs, [key]) == {"accelerator=cpu": [0], "accelerator=gpu": [1]}


def test_labels_are_the_fewest_keys_that_tell_rows_apart():
    """The width is typed, the other key follows it; keys of one last part are shown in full."""
    runs = [
        stored_run(model__follows=w / 2, model__net__width=w, overrides=(f"model.net.width={w}",))
        for w in (16, 8)
    ]
    assert list(rows(runs)) == ["width=8", "width=16"]
    named = rows(runs, ["model.follows", "model.net.width"])
    assert list(named) == ["follows=4.0, width=8", "follows=8.0, width=16"]
    runs = [stored_run(), stored_run(a__rate=1, b__rate=2)]
    labels = ["a.rate=1, b.rate=2", "a.rate=not set, b.rate=not set"]
    assert list(rows(runs, ["a.rate", "b.rate"])) == labels


def test_keys_that_would_average_over_configs_or_are_unknown_are_refused():
    for keys, message in (
        (["model.net._target_"], r"averaged over; got runs of 'CNN' that differ in model.alpha\."),
        (["alpha"], "must name keys .* Use model.alpha"),
        (["seed"], "other than the seed; got 'seed'"),
        (["data.seed"], "other than the seed; got 'data.seed'"),
    ):
        with pytest.raises(UserError, match=message):
            group_runs([stored_run(seed=0), stored_run(seed=1, model__alpha=0.1)], keys)


def test_of_runs_with_one_seed_the_last_counts_once():
    runs = [stored_run(started=t) for t in "21"] + [stored_run(started="3", status="failed")]
    (group,) = group_runs(runs)
    assert list(group.finished.values()) == [runs[0]]
    assert group.runs == (runs[1], runs[0], runs[2])


def test_a_resumed_run_has_the_config_it_ended_with(tmp_path):
    runs = [write_run(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    longer = (runs[1] / "config.yaml").read_text().replace("max_epochs: 2", "max_epochs: 9")
    (runs[1] / "config_resumed.yaml").write_text(longer)
    assert len(group_runs([read_run(run) for run in runs])) == 2


def test_lines_against_a_swept_key_have_one_row_per_value():
    runs = [stored_run(n, s, model__alpha=a) for n in ("A", "B") for a in (1, 0.0) for s in (0, 1)]
    groups = group_runs([*runs, stored_run("B", model__alpha=0.5)])
    assert swept_keys(groups) == {"model.alpha": "alpha"}
    lines = lines_against(groups, "model.alpha")
    assert {label: list(line) for label, line in lines.items()} == {"A": [0, 1], "B": [0, 0.5, 1]}
    assert lines["A"][1].label == "A, alpha=1" and len(lines["A"][1].runs) == 2
    assert list(lines_against(group_runs(runs[:4]), "model.alpha")) == ["A"]
    assert swept_keys(group_runs([stored_run("A"), stored_run("B")])) == {}
