import math

import optuna
import pytest
from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from src.callbacks.study import ReportToStudy
from src.errors import UserError
from src.runs.overrides import flatten
from src.searches.checks import check_file
from src.searches.report import best_trials, plot_history, write_tables
from src.searches.space import override_text, read_space
from src.searches.study import JournalLock, SharedStudy
from src.searches.trials import may_differ

CONFIG = {
    "model": {"optimizer": {"lr": 0.01}, "net": {"width": 8, "group": "c4"}},
    "seed": 0,
}
LR = "model.optimizer.lr"


def space(**entries):
    return read_space(entries, CONFIG, {"model"})


def test_a_space_is_read():
    entries = {
        LR: {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
        "model.net.width": {"type": "int", "low": 8, "high": 32, "step": 8},
        "model.net.group": {"type": "categorical", "choices": ["c4", "c8", None]},
        "model": {"type": "categorical", "choices": ["tiny", "wider"]},
    }
    parameters = read_space(entries, CONFIG, {"model"})
    assert {parameter.key: parameter.values for parameter in parameters} == {
        LR: FloatDistribution(1e-4, 0.1, log=True),
        "model.net.width": IntDistribution(8, 32, step=8),
        "model.net.group": CategoricalDistribution(["c4", "c8", None]),
        "model": CategoricalDistribution(["tiny", "wider"]),
    }


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "float", "low": 0.1, "high": 0.7, "step": 0.2},
        {"type": "float", "low": -1, "high": 1},
        {"type": "int", "low": 1, "high": 64, "log": True},
        {"type": "categorical", "choices": [1, "1", True]},
    ],
)
def test_values_are_drawn_from_the_space_and_kept(entry):
    (parameter,) = space(**{LR: entry})
    trial = optuna.create_study().ask()
    value = parameter.draw(trial)
    assert parameter.draw(trial) == value == trial.params[LR]
    low, high = entry.get("low"), entry.get("high")
    assert value in entry["choices"] if low is None else low <= value <= high


@pytest.mark.parametrize(
    ("key", "entry", "message"),
    [
        ("model.optimizer.rate", {"type": "float"}, "must stand in the config; got one that does"),
        ("model.optimizer.l", {"type": "float"}, "Use model.optimizer.lr"),
        ("model.net", {"type": "int"}, "got that of a section. Use .*model.net.width"),
        ("model", {"type": "int", "low": 1, "high": 2}, "must be of type categorical; got 'int'"),
        (LR, {"type": "real", "low": 0, "high": 1}, "must be float, int or categorical; got 'real"),
        (LR, {"low": 0, "high": 1}, "must be float, int or categorical; got {'low'"),
        (LR, 0.1, "must be float, int or categorical; got 0.1"),
        (LR, {"type": "float", "low": 1, "high": 2, "lgo": True}, "knows high, l.*; got lgo"),
        (LR, {"type": "float", "low": 1, "high": 1}, "`low` must be below `high`; got low=1"),
        (LR, {"type": "float", "high": 1}, "`low` must be a finite number; got None"),
        (LR, {"type": "float", "low": 0, "high": math.inf}, "`high` must be a finite number; got"),
        (LR, {"type": "float", "low": "1e-4", "high": 1}, "`low` must be a finite number; got '1e"),
        (LR, {"type": "int", "low": 0.5, "high": 1}, "`low` must be a whole number; got 0.5"),
        (LR, {"type": "float", "low": 0, "high": 1, "log": True}, "must begin above 0; got low=0"),
        (LR, {"type": "float", "low": 1, "high": 2, "log": 10}, "must be true or false; got 10"),
        (LR, {"type": "int", "low": 1, "high": 9, "log": True, "step": 2}, "got step=2 with log"),
        (LR, {"type": "int", "low": 1, "high": 9, "step": 0}, "`step` must be above 0.*got step=0"),
        (LR, {"type": "int", "low": 8, "high": 30, "step": 8}, "a multiple of .*Use high: 24"),
        (LR, {"type": "float", "low": 0.1, "high": 0.6, "step": 0.2}, "Use high: 0.5"),
        (LR, {"type": "categorical"}, "must be a list of different plain values.*got None"),
        (LR, {"type": "categorical", "choices": ["a", "a"]}, "different plain values"),
        (LR, {"type": "categorical", "choices": [[1], [2]]}, "different plain values"),
    ],
)
def test_a_bad_entry_is_told(key, entry, message):
    with pytest.raises(UserError, match=message):
        space(**{key: entry})


def test_all_bad_entries_are_told_at_once():
    with pytest.raises(UserError, match=r"(?s)space, nowhere: .*space, seed: "):
        space(nowhere={"type": "int"}, seed={"type": "real"})


@pytest.mark.parametrize("entries", [None, {}, [LR]])
def test_a_search_needs_a_space(entries):
    with pytest.raises(UserError, match="must hold the values to try, by config key; got"):
        read_space(entries, CONFIG, set())


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, -0.5, 1e-05, 0.1 + 0.2, "c4", "rgcnn_smoke", "null", "True", "1e-4"),
        *("two words", "it's", "/logs/a b/c=d", "a/b.yaml", "nan", "", "C:\\logs\\", "it\\'s"),
    ],
)
def test_hydra_reads_an_override_back(value):
    parsed = OverridesParser.create().parse_override(override_text("a.b", value))
    assert parsed.key_or_group == "a.b"
    assert parsed.value() == value
    assert type(parsed.value()) is type(value)


def test_nested_dicts_are_flattened():
    assert dict(flatten(CONFIG)) == {
        LR: 0.01,
        "model.net.width": 8,
        "model.net.group": "c4",
        "seed": 0,
    }
    assert dict(flatten({"a": {}, "b": [1, {"c": 2}]})) == {"a": {}, "b": [1, {"c": 2}]}


def test_a_search_file_must_not_change_what_is_trained():
    searched = {**CONFIG, "search": {"space": {}}, "optimized_metric": "val/acc"}
    check_file(searched, CONFIG)
    with pytest.raises(UserError, match=r"must set only `search`.*; got seed\. Put these into"):
        check_file({**searched, "seed": 1}, CONFIG)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        *(("trainer.devices", True), ("logger.csv.save_dir", True), ("paths.log_dir", True)),
        *(("trainer.max_epochs", False), ("model.alpha", False), ("seed", False)),
    ],
)
def test_processes_may_differ_in_what_changes_no_result(key, expected):
    assert may_differ(key) is expected


def test_half_a_line_of_a_journal_is_cut_off(tmp_path):
    path = tmp_path / "journal.log"

    def study():
        backend = JournalFileBackend(str(path), lock_obj=JournalLock(path))
        return optuna.create_study(
            storage=JournalStorage(backend), study_name="s", load_if_exists=True
        )

    first = study()
    first.tell(first.ask(), 1.0)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":4,"wor')
    second = study()
    second.tell(second.ask(), 2.0)
    assert [trial.value for trial in study().trials] == [1.0, 2.0]
    assert path.read_bytes().startswith(whole)


@pytest.fixture
def join(tmp_path):
    """Take part in one study, as a process would."""

    def shared(seed=0, **changes):
        settings = {
            "storage": None,
            "name": "s",
            "direction": "maximize",
            "space": space(**{LR: {"type": "float", "low": 0.0, "high": 1.0}}),
            "make_sampler": lambda seed: optuna.samplers.TPESampler(seed=seed),
            "pruner": None,
        }
        return SharedStudy(tmp_path / "study", seed=seed, **{**settings, **changes})

    return shared


def test_trials_are_claimed_by_one_process_each(join):
    one, other = join(), join()
    claims = [one.next_trial(3), other.next_trial(3), one.next_trial(3)]
    assert [claim.trial.number for claim in claims] == [0, 1, 2]
    assert len({claim.values[LR] for claim in claims}) == 3
    for claim in claims:
        with pytest.raises(Timeout):
            FileLock(claim.lock.lock_file).acquire(blocking=False)
    for study, claim in zip((one, other, one), claims):
        study.tell(claim, 1.0, TrialState.COMPLETE)
    assert one.next_trial(3) is other.next_trial(3) is None


def test_a_trial_that_was_let_go_is_claimed_again(join):
    first = join()
    left = first.next_trial(2)
    left.trial.report(0.5, 1)
    first.release(left)
    again = join().next_trial(2)
    assert again.trial.number == 0
    assert again.values == left.values
    assert again.reported == {1}


def test_a_failed_trial_is_replaced_and_a_pruned_one_is_not(join):
    study = join()
    study.tell(study.next_trial(2), None, TrialState.FAIL)
    study.tell(study.next_trial(2), None, TrialState.PRUNED)
    last = study.next_trial(2)
    assert last.trial.number == 2
    study.tell(last, 0.1, TrialState.COMPLETE)
    assert study.next_trial(2) is None
    assert study.count(TrialState.FAIL) == 1


def test_no_trial_starts_after_the_deadline(join):
    assert join().next_trial(1, deadline=0.0) is None


def drawn(study, count):
    values = []
    for _ in range(count):
        claim = study.next_trial(100)
        values.append(claim.values[LR])
        study.tell(claim, claim.values[LR], TrialState.COMPLETE)
    return values


def test_equal_seeds_draw_equal_values_also_when_interrupted(join, tmp_path):
    whole = drawn(join(name="whole"), 13)
    parts = [*drawn(join(name="parts"), 5), *drawn(join(name="parts"), 8)]
    assert parts == whole
    assert len(set(whole)) == 13
    assert drawn(join(name="other", seed=1), 2) != whole[:2]


def test_settings_must_stay_as_they_were(join):
    join().check_settings({"a": {"b": 1}, "c": None})
    join().check_settings({"a": {"b": 1}, "c": None})
    with pytest.raises(UserError, match=r"got a\.b: 2 instead of 1; d: 1 instead of nothing"):
        join().check_settings({"a": {"b": 2}, "c": None, "d": 1})


def test_a_new_study_must_have_a_new_directory(join, tmp_path):
    (tmp_path / "study" / "trials" / "0000").mkdir(parents=True)
    with pytest.raises(UserError, match="must hold no trials; got"):
        join().check_settings({})


class FakeTrainer:
    max_epochs = 3

    def __init__(self, epoch, **metrics):
        self.current_epoch = epoch
        self.callback_metrics = metrics
        self.should_stop = False


class FakeTrial:
    def __init__(self, prune=False):
        self.reports = {}
        self.prune = prune

    def report(self, value, step):
        self.reports[step] = value

    def should_prune(self):
        return self.prune


def after_epoch(reporter, epoch, **metrics):
    trainer = FakeTrainer(epoch, **metrics)
    reporter.on_validation_end(trainer, None)
    reporter.on_train_epoch_end(trainer, None)
    return trainer.should_stop


def test_every_epoch_is_reported_once():
    trial = FakeTrial()
    reporter = ReportToStudy(trial, "acc", reported=frozenset({1}))
    for epoch in range(3):
        assert not after_epoch(reporter, epoch, acc=0.1 * epoch)
    assert trial.reports == {2: 0.1, 3: 0.2}
    reporter.on_train_epoch_end(FakeTrainer(3, acc=0.5), None)  # without validation
    assert len(trial.reports) == 2


@pytest.mark.parametrize(
    ("epoch", "value", "stops"), [(0, 0.5, True), (2, 0.5, False), (2, math.nan, True)]
)
def test_training_is_ended_where_more_of_it_is_not_worth_it(epoch, value, stops):
    reporter = ReportToStudy(FakeTrial(prune=True), "acc")
    assert after_epoch(reporter, epoch, acc=value) is stops
    assert reporter.pruned is stops


def test_a_metric_that_is_not_logged_is_told():
    with pytest.raises(ValueError, match=r"must be a metric .*got 'f1'\. Logged are: acc, loss"):
        after_epoch(ReportToStudy(FakeTrial(), "f1"), 0, loss=1.0, acc=0.0)


def test_the_report_ranks_by_the_direction(tmp_path):
    study = optuna.create_study(direction="minimize", study_name="s")
    distributions = {LR: FloatDistribution(0, 1)}
    for number, value in enumerate([3.0, 1.0, 1.0, 2.0]):
        study.add_trial(
            optuna.create_trial(
                value=value,
                params={LR: value / 4},
                distributions=distributions,
                user_attrs={"directory": f"trials/{number:04d}"},
            )
        )
    assert [trial.number for trial in best_trials(study)] == [1, 2, 3, 0]
    write_tables(study, tmp_path, "val/rmse", ["model=tiny"])
    rows = (tmp_path / "trials.csv").read_text().splitlines()
    assert rows[0] == f"trial,state,val/rmse,{LR},epochs,seconds,directory,error"
    assert rows[1].startswith("0,complete,3.0,0.75,,")
    assert f"command: python src/train.py model=tiny {LR}=0.25" in (
        tmp_path / "best_trial.yaml"
    ).read_text().replace("\n  ", " ")
    (line,) = plot_history(study, "val/rmse").axes[0].lines
    assert list(line.get_ydata()) == [3.0, 1.0, 1.0, 1.0]


def test_a_study_without_trials_is_reported_too(tmp_path):
    study = optuna.create_study(study_name="s")
    write_tables(study, tmp_path, "val/acc", [])
    assert (tmp_path / "trials.csv").read_text().startswith("trial,state,val/acc,")
    assert not (tmp_path / "best_trial.yaml").exists()
    assert not plot_history(study, "val/acc").axes[0].lines
