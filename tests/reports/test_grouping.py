"""Rows hold runs whose configs differ in nothing but the seed."""

import pytest
from report_fakes import config_of, write_run

from src.errors import UserError
from src.reports.grouping import group_runs
from src.reports.reading import StoredRun, read_run
from src.reports.settings import differing_circumstances


@pytest.fixture
def make(tmp_path):
    """A finished run with changes at dotted keys, e.g. `model.alpha`."""

    def run(network="CNN", seed=0, started="", overrides=(), status="finished", **changes):
        directory = tmp_path / f"{network}-{seed}-{len(changes)}-{started}"
        config = config_of(directory, network, seed)
        for key, value in changes.items():
            *parents, last = key.split("__")
            below = config
            for parent in parents:
                below = below.setdefault(parent, {})
            below[last] = value
        summary = {"status": status, "task": "train", "seed": seed}
        environment = {"started": started}
        return StoredRun(directory, config, summary, environment, list(overrides))

    return run


def labels(groups):
    return [(group.label, list(group.finished)) for group in groups]


def test_seeds_of_one_config_share_a_row_wherever_they_lie(make):
    runs = [make(network, seed) for network in ("GCNN", "CNN") for seed in (2, 0, 1)]
    assert labels(group_runs(runs)) == [("CNN", [0, 1, 2]), ("GCNN", [0, 1, 2])]


@pytest.mark.parametrize(
    "key, value",
    [
        ("model__alpha", 0.1),
        ("model__alpha", None),
        ("data__batch_size", 16),
        ("trainer__precision", "bf16-mixed"),
        ("data__split", [0, 1]),
        ("model__net", {"_target_": "other.place.CNN"}),
    ],
)
def test_any_other_difference_splits_a_row(make, key, value):
    groups = group_runs([make(seed=0), make(seed=1), make(seed=2, **{key: value})])
    assert sorted(len(group.runs) for group in groups) == [1, 2]
    assert len({group.label for group in groups}) == 2


def test_a_seed_that_does_not_follow_the_seed_is_part_of_the_config(make):
    runs = [make(seed=seed, data__seed=0) for seed in (0, 1)]
    assert len(group_runs(runs)) == 1
    runs = [make(seed=0, data__seed=0), make(seed=1, data__seed=1), make(seed=2, data__seed=0)]
    assert len(group_runs(runs)) == 2


def test_numbers_are_equal_by_value_and_true_is_not_one(make):
    assert len(group_runs([make(seed=0, model__alpha=1), make(seed=1, model__alpha=1.0)])) == 1
    assert len(group_runs([make(seed=0, model__alpha=1), make(seed=1, model__alpha=True)])) == 2


def test_circumstances_do_not_split_rows_unless_named(make):
    runs = [make(seed=0, trainer__accelerator="cpu"), make(seed=1, trainer__accelerator="gpu")]
    assert labels(group_runs(runs)) == [("CNN", [0, 1])]
    assert differing_circumstances(runs) == {"trainer.accelerator": ["cpu", "gpu"]}
    groups = group_runs(runs, ["trainer.accelerator"])
    assert labels(groups) == [("accelerator=cpu", [0]), ("accelerator=gpu", [1])]


def test_labels_are_the_fewest_keys_that_tell_rows_apart(make):
    # the width is typed, the other key follows it
    runs = [
        make(seed=0, model__follows=w / 2, model__net__width=w, overrides=[f"model.net.width={w}"])
        for w in (16, 8)
    ]
    assert [group.label for group in group_runs(runs)] == ["width=8", "width=16"]
    named = group_runs(runs, ["model.follows", "model.net.width"])
    assert [group.label for group in named] == ["follows=4.0, width=8", "follows=8.0, width=16"]


def test_keys_of_one_last_part_are_told_apart(make):
    runs = [make(seed=0), make(seed=0, a__rate=1, b__rate=2), make(seed=0, a__rate=1, b__rate=3)]
    assert [group.label for group in group_runs(runs, ["a.rate", "b.rate"])] == [
        "a.rate=1, b.rate=2",
        "a.rate=1, b.rate=3",
        "a.rate=not set, b.rate=not set",
    ]


def test_too_few_keys_are_refused_rather_than_averaged_over(make):
    runs = [make(seed=0), make(seed=1, model__alpha=0.1)]
    with pytest.raises(UserError, match=r"differ in model.alpha\. Name one of these too"):
        group_runs(runs, ["model.net._target_"])


@pytest.mark.parametrize("key, advice", [("alpha", "Use model.alpha"), ("seed", "other than the")])
def test_unknown_keys_are_refused(make, key, advice):
    with pytest.raises(UserError, match=advice):
        group_runs([make()], [key])


def test_of_runs_with_one_seed_the_last_counts_once(make):
    runs = [make(started="2"), make(started="1"), make(started="3", status="failed")]
    (group,) = group_runs(runs)
    assert list(group.finished.values()) == [runs[0]]
    assert group.repeated == [runs[1]]


def test_a_resumed_run_has_the_config_it_ended_with(tmp_path):
    runs = [write_run(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    longer = (runs[1] / "config.yaml").read_text().replace("max_epochs: 2", "max_epochs: 9")
    (runs[1] / "config_resumed.yaml").write_text(longer)
    assert len(group_runs([read_run(run) for run in runs])) == 2
