import pytest
from report_fakes import stored_run, write_run

from src.errors import UserError
from src.reports.grouping import check_keys, differing_keys, group_runs, split_studies
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


def test_labels_have_all_keys_that_differ_but_those_that_follow_others():
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


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        # the width belongs to the preset of a network; the learning rate is a setting of its own
        (
            [
                (network, {"model__net__width": width, "model__optimizer__lr": rate})
                for network, width, rate in (("A", 8, 0.1), ("B", 4, 0.2))
            ],
            ["A, lr=0.1", "B, lr=0.2"],
        ),
        # nothing says which of the two made the difference
        (
            [("A", {"data__num_train": 500}), ("B", {"data__num_train": 1000})],
            ["A, num_train=500", "B, num_train=1000"],
        ),
        # all of a callback follows its class
        (
            [("A", {}), ("A", {"callbacks__m": {"_target_": "x.Measure", "every": 5, "seed": 1}})],
            ["m=Measure", "m=not set"],
        ),
        # lists and texts too long for a label
        (
            [("A", {"data__split": list(range(i, i + 90))}) for i in (0, 1)],
            [f"split={str(list(range(i, i + 90)))[:39]}…" for i in (0, 1)],
        ),
        # what relaxation=... chose says all that it sets; what was typed beside it is named
        (
            [
                (
                    "A",
                    {
                        "relaxation": name,
                        "model__penalty": name,  # follows
                        "model__alpha": alpha,
                        "overrides": (f"relaxation={name}", f"model.alpha={alpha}"),
                    },
                )
                for name, alpha in (("l1", 0.1), ("l2", 0.1), ("l2", 0.2))
            ],
            [
                f"{alpha}, relaxation={choice}"
                for alpha, choice in (("alpha=0.1", "l1"), ("alpha=0.1", "l2"), ("alpha=0.2", "l2"))
            ],
        ),
        # what a network does not have
        (
            [("A", {"model__net__groups": v} if v else {}) for v in ([], [1], [2])],
            ["groups=[1]", "groups=[2]", "A"],
        ),
    ],
)
def test_what_a_label_is_made_of(changes, labels):
    assert set(rows([stored_run(network, **change) for network, change in changes])) == set(labels)


def test_labels_of_many_keys_tell_rows_apart_and_name_as_few_as_do():
    runs = [
        stored_run(**{f"data__k{key}": run >> key & 1 for key in range(9)}) for run in (0, 1, 6)
    ]
    assert sorted(rows(runs)) == ["k0=0, k1=0", "k0=0, k1=1", "k0=1, k1=0"]
    long = [stored_run(data__text="a" * 60 + end) for end in "xyx"[:2]]
    assert len(rows(long)) == 2  # of equal shortened texts, the second has a number


def test_runs_of_other_data_or_tasks_are_studies_of_their_own():
    runs = [
        stored_run("CNN", seed, data___target_=f"d.{data}", model___target_=f"m.{module}")
        for seed in (0, 1)
        for data, module in (("Digits", "Class"), ("Plumes", "Forecast"), ("Plumes", "Other"))
    ]
    found = split_studies(runs)
    assert list(found) == ["Digits", "Plumes, Forecast", "Plumes, Other"]
    assert [len(runs) for runs in found.values()] == [2, 2, 2]
    assert all(len(group_runs(runs)) == 1 for runs in found.values())


def test_keys_that_differ():
    groups = group_runs([stored_run(), stored_run(model__alpha=1), stored_run(data__level=[1])])
    assert differing_keys(groups) == ["data.level", "model.alpha"]


def test_keys_that_would_average_over_configs_or_are_unknown_are_refused():
    runs = [stored_run(seed=0), stored_run(seed=1, model__alpha=0.1)]
    with pytest.raises(UserError, match=r"over; got runs of 'CNN' that differ in model.alpha\."):
        group_runs(runs, ["model.net._target_"])
    for key, message in (
        ("alpha", "`--x` must name keys .* Use model.alpha"),
        ("seed", "other than the seed; got 'seed'"),
        ("data.seed", "other than the seed; got 'data.seed'"),
    ):
        with pytest.raises(UserError, match=message):
            check_keys(runs, [key], "--x")


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
