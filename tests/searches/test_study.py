import optuna
import pytest
from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from src.errors import UserError
from src.searches.study import JournalLock, SharedStudy

ANY_RATE = FloatDistribution(0, 1)


def test_half_a_line_of_a_journal_is_cut_off(tmp_path):
    path = tmp_path / "journal.log"

    def started():
        storage = JournalStorage(JournalFileBackend(str(path), JournalLock(path)))
        return optuna.create_study(storage=storage, study_name="s", load_if_exists=True)

    first = started()
    first.tell(first.ask(), 1.0)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":4,"wor')
    second = started()
    assert len(second.trials) == 1
    second.tell(second.ask(), 2.0)
    assert [trial.value for trial in started().trials] == [1.0, 2.0]
    assert path.read_bytes().startswith(whole)


@pytest.fixture
def join(tmp_path):
    """Take part in one study, as a process would."""
    fixed = {"storage": None, "pruner": None, "direction": "max"}

    def shared(name="study", seed=0, sampler="TPESampler", lr=ANY_RATE):
        sampler = {"_target_": f"optuna.samplers.{sampler}"}
        own = {"dir": str(tmp_path / name), "name": name, "seed": seed, "sampler": sampler}
        return SharedStudy(OmegaConf.create(fixed | own), {"lr": lr})

    return shared


def test_trials_are_claimed_by_one_process_each_and_again_when_let_go(join):
    one, other = join(), join()
    claims = [one.next_trial(3), other.next_trial(3), one.next_trial(3)]
    for n, claim in enumerate(claims):
        assert (claim.trial.number, claim.directory) == (n, f"trials/000{n}")
    assert len({claim.trial.params["lr"] for claim in claims}) == 3
    for claim in claims:
        with pytest.raises(Timeout):
            FileLock(claim.lock.lock_file).acquire(blocking=False)
    for study, claim in zip((one, other, one), claims):
        study.tell(claim, 1.0, TrialState.COMPLETE)
    assert one.next_trial(3) is other.next_trial(3) is None
    left = join("left").next_trial(2)
    left.trial.report(0.5, 1)
    left.lock.release()
    again = join("left").next_trial(2)
    assert (again.trial.number, again.trial.params) == (0, left.trial.params)
    assert again.reported == {1}
    killed = join("killed")  # while it drew
    killed.study.ask()
    assert killed.next_trial(1).trial.params == left.trial.params


def test_a_failed_trial_is_replaced_and_a_pruned_one_is_not(join):
    study = join()
    assert study.next_trial(1, deadline=0.0) is None  # no trial starts after the deadline
    states = {TrialState.FAIL: None, TrialState.PRUNED: None, TrialState.COMPLETE: 0.1}
    for number, (state, value) in enumerate(states.items()):
        claim = study.next_trial(2)
        assert claim.trial.number == number
        study.tell(claim, value, state)
    assert study.next_trial(2) is None and study.num_finished() == 2


def test_equal_seeds_draw_equal_values_also_when_interrupted(join):
    def drawn(study, count):
        claims = []
        for _ in range(count):
            claims.append(study.next_trial(100))
            study.tell(claims[-1], claims[-1].trial.params["lr"], TrialState.COMPLETE)
        return [claim.trial.params["lr"] for claim in claims]

    whole = drawn(join("whole"), 13)
    assert [*drawn(join("parts"), 5), *drawn(join("parts"), 8)] == whole
    assert len(set(whole)) == 13
    assert drawn(join("other", seed=1), 2) != whole[:2]
    assert drawn(join("drawn", seed=None), 1) != drawn(join("again", seed=None), 1)


@pytest.mark.filterwarnings("ignore:BruteForceSampler is experimental")
def test_a_sampler_that_tries_all_values_ends_with_the_last_one(join):
    study = join(sampler="BruteForceSampler", lr=CategoricalDistribution((0.1, 0.2, 0.3)))
    tried = set()
    while claim := study.next_trial(3):
        tried.add(claim.trial.params["lr"])
        study.tell(claim, 1.0, TrialState.COMPLETE)
    assert tried == {0.1, 0.2, 0.3} and study.num_finished() == 3


def test_settings_must_stay_as_they_were_and_a_new_study_has_a_new_directory(join, tmp_path):
    for _ in range(2):
        join().check_settings({"a": {"b": 1}, "c": None})
    with pytest.raises(UserError, match=r"got a\.b: 2 instead of 1; d: 1 instead of nothing"):
        join().check_settings({"a": {"b": 2}, "c": None, "d": 1})
    (tmp_path / "new" / "trials" / "0000").mkdir(parents=True)
    with pytest.raises(UserError, match="must hold no trials; got"):
        join("new").check_settings({})
