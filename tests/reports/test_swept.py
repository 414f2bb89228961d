import pytest
from report_fakes import stored_run

from src.errors import UserError
from src.reports.grouping import group_runs
from src.reports.swept import (
    by_data,
    check_swept,
    going_along,
    lines_against,
    pairs,
    swept_keys,
    variant,
)

RUNS = [stored_run(n, s, model__alpha=a) for n in ("A", "B") for a in (1, 0.0) for s in (0, 1)]


def test_lines_against_a_swept_key_have_one_row_per_value():
    groups = group_runs([*RUNS, stored_run("B", model__alpha=0.5)])
    assert swept_keys(groups) == {"model.alpha": "alpha"}
    first, second = lines_against(groups, "model.alpha")
    assert (first.label, list(first.rows)) == ("A", [0, 1])
    assert (second.label, second.network, list(second.rows)) == ("B", "B", [0, 0.5, 1])
    assert first.rows[1].label == "A, alpha=1" and len(first.rows[1].runs) == 2
    assert [line.label for line in lines_against(group_runs(RUNS[:4]), "model.alpha")] == ["A"]
    assert swept_keys(group_runs([stored_run("A"), stored_run("B")])) == {}


def test_what_goes_along_with_the_number_does_not_split_a_line():
    """More epochs for fewer images; and two keys make two lines of each network."""
    runs = [
        stored_run(n, data__num_train=size, trainer__max_epochs=3000 // size, model__width=w)
        for n in ("A", "B")
        for size in (100, 300, 1000)
        for w in (8, 16)
    ]
    groups = group_runs(runs)
    assert going_along(groups, "data.num_train") == ["trainer.max_epochs"]
    lines = lines_against(groups, "data.num_train")
    assert [(line.network, line.variant) for line in lines] == [
        (network, f"width={w}") for network in ("A", "B") for w in (8, 16)
    ]
    assert all(list(line.rows) == [100, 300, 1000] for line in lines)
    assert variant(groups[0]) == "num_train=100, width=8, max_epochs=30"


def test_of_many_lines_those_with_a_single_number_are_left_out():
    """What the lines that are left have in common is not part of their names."""
    runs = [stored_run(n, model__alpha=a, model__width=8) for n in ("A", "B") for a in (0, 1)]
    for number, labels in ((3, 5), (20, 2)):
        others = [stored_run("A", model__alpha=2, model__width=w) for w in range(10, 10 + number)]
        lines = lines_against(group_runs([*runs, *others]), "model.alpha")
        assert len(lines) == labels
    assert [(line.label, line.variant) for line in lines] == [("A", ""), ("B", "")]


def test_a_key_that_is_no_number_everywhere():
    """All images (null) stand on no line, lists and truth values on no axis."""
    runs = [stored_run(seed=s, data__num_train=n) for s in (0, 1) for n in (None, 100, 300)]
    groups = group_runs(runs)
    assert swept_keys(groups) == {"data.num_train": "num_train"}
    assert [list(line.rows) for line in lines_against(groups, "data.num_train")] == [[100, 300]]
    for values in (([1], [2]), (True, False), ("a", "b"), (1, None)):
        groups = group_runs([stored_run(model__k=value) for value in values])
        assert swept_keys(groups) == {}
        with pytest.raises(UserError, match="`--x` must name a key with at least two numbers"):
            check_swept(groups, ["model.k"])


def test_a_key_that_follows_another_is_drawn_when_asked_for():
    """The number of parameters follows the width, which rows are named after."""
    runs = [
        stored_run(model__net__width=w, model__net__size=10 * w, overrides=("model.net.width=1",))
        for w in (8, 16)
    ]
    groups = group_runs(runs)
    assert swept_keys(groups, ["model.net.size"]) == {"model.net.size": "size"}
    (line,) = lines_against(groups, "model.net.size")
    assert {x: group.label for x, group in line.rows.items()} == {80: "width=8", 160: "width=16"}


def test_pairs_differ_in_one_choice():
    groups = group_runs(RUNS)
    labels = [(group.label, other.label) for group, other in pairs(groups, None)]
    assert labels == [
        ("B, alpha=0.0", "A, alpha=0.0"),
        ("B, alpha=1", "A, alpha=1"),
        ("A, alpha=1", "A, alpha=0.0"),
        ("B, alpha=1", "B, alpha=0.0"),
    ]
    with_baseline = [group.label for group, _ in pairs(groups, groups[0])]
    assert with_baseline == ["A, alpha=1", "B, alpha=0.0"]  # not B, alpha=1
    confounded = [stored_run("A", data__num_train=1), stored_run("B", data__num_train=2)]
    typed = [stored_run("A", model__lr=1, overrides=("model.lr=1",)), stored_run("B", model__lr=2)]
    for runs in (confounded[:1], typed):
        assert not list(pairs(group_runs(runs), None))
    named = group_runs(typed, ["model.net._target_"])
    assert (
        len(list(pairs(named, None))) == 1
    )  # the learning rate goes with what rows are named after
    preset = [stored_run("A", model__lr=1), stored_run("B", model__lr=2)]
    assert len(list(pairs(group_runs(preset), None))) == 1  # each with its own learning rate


def test_rows_are_of_one_data_whatever_changes_their_training():
    runs = [
        stored_run("A", data__level=level, data__augment=group, model__alpha=alpha)
        for level in (0, 4)
        for group in ("none", "c4")
        for alpha in (0, 1)
    ]
    parts = by_data(group_runs(runs))
    assert {data: len(rows) for data, rows in parts.items()} == {"level=0": 4, "level=4": 4}
    assert list(by_data(group_runs(runs[:2]))) == [""]
