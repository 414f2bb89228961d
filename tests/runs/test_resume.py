import json
from contextlib import nullcontext

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from src.errors import UserError
from src.runs import resume
from src.runs.overrides import relocate
from src.runs.resolvers import register_resolvers
from src.runs.resume import record_resume, resumed_config, rewind, taken
from src.sweeps.names import register_sweep_resolvers
from tests.conftest import FAKES, QUICK, QUIET, ROOT, assert_same_result


@pytest.fixture(scope="module")
def composed():
    register_resolvers()
    register_sweep_resolvers()
    before = HydraConfig.instance().cfg
    texts = [*QUICK, QUIET, f"hydra.searchpath=[file://{FAKES / 'configs'}]"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("train", texts, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    yield OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    HydraConfig.instance().cfg = before


@pytest.fixture
def resumed(composed, earlier_run, monkeypatch):
    """Config of `earlier_run` when it is resumed with a command line."""

    def config_of(*typed, output_dir=earlier_run.path):
        monkeypatch.setattr(resume, "command_line", lambda: [f"resume={earlier_run.path}", *typed])
        config = OmegaConf.merge(composed, {"resume": str(earlier_run.path)})
        config.paths.output_dir = str(output_dir)
        return resumed_config(config)

    return config_of


def test_it_is_the_stored_one_with_the_allowed_changes(resumed, earlier_run, tmp_path):
    config = OmegaConf.to_container(resumed("seed=0", "model.net.width=8", *QUICK[:-1]))
    stored = earlier_run.config
    assert config.pop("resume") == config["paths"]["output_dir"] == str(earlier_run.path)
    assert config["callbacks"]["checkpoint"]["dirpath"] == f"{earlier_run.path}/checkpoints"
    for key in ("model", "data", "seed", "tags", "trainer"):
        stored[key] = relocate(stored[key], stored["paths"]["output_dir"], str(earlier_run.path))
        assert config[key] == stored[key]
    changes = ("trainer.max_epochs=7", "data.num_workers=1", "tags=[b]", "logger=csv")
    config = resumed(*changes, f"paths.data_dir={tmp_path}")
    assert (config.trainer.max_epochs, config.data.num_workers, config.tags) == (7, 1, ["b"])
    assert config.data.data_dir == config.paths.data_dir == str(tmp_path)


def test_what_would_make_it_another_run_is_refused(resumed, earlier_run, tmp_path):
    for argument in (
        *("model=wider", "experiment=rgcnn_rotmnist", "model.net.width=13", "data.batch_size=9"),
        *("seed=4", "trainer.precision=64-true", "+model.net.num_classes=4", "~model.alpha"),
    ):
        with pytest.raises(UserError, match=r"continues with the config .* make it another run"):
            resumed(argument)
    with pytest.raises(UserError, match="continued in its own directory"):
        resumed(output_dir=tmp_path)
    with pytest.raises(UserError, match=r"at least the 4 epochs that the resumed run has .* got 1"):
        rewind(earlier_run.path, resumed("trainer.max_epochs=1"))


def test_what_was_logged_after_the_last_checkpoint_is_dropped(resumed, earlier_run):
    def steps():
        return [int(line.split(",")[1]) for line in earlier_run.metrics.splitlines()[1:]]

    before = steps()
    assert rewind(earlier_run.path, resumed()) == earlier_run / "checkpoints" / "last.ckpt"
    assert steps() == [step for step in before if step < 4 * 7] != before
    (earlier_run / "checkpoints" / "last.ckpt").unlink()
    (earlier_run / "metrics.csv").write_text("epoch,step,val/acc\n0,0,1.0\n0,6,1.0\n")
    assert rewind(earlier_run.path, resumed()) is None
    assert not (earlier_run / "metrics.csv").exists()


def test_a_run_continued_by_other_code_says_so(resumed, earlier_run, caplog):
    message = "by commit 0000000000 of the code and is continued by 1111111111"
    (earlier_run / "environment.json").write_text(json.dumps({"git": {"commit": "0" * 16}}))
    for digit in "01":
        record_resume(earlier_run.path, resumed(), {"git": {"commit": digit * 16}})
        assert (message in caplog.text) == (digit == "1")


@pytest.mark.slow
def test_a_run_goes_on_for_more_epochs_also_after_another_resume(train, earlier_run, first_run):
    place = f"resume={earlier_run.path}"
    (earlier_run / "summary.json").unlink()  # killed in the test
    again = train(place, "trainer.max_epochs=4")
    assert "Training ended after 4 epochs" in again.log
    assert (again.path, again.metrics) == (earlier_run.path, first_run.metrics)
    changed = {key for key, value in first_run.summary.items() if again.summary[key] != value}
    assert changed <= {"wall_time_s"}
    assert again.summary["wall_time_s"] > first_run.summary["wall_time_s"] / 2
    longer = train(place, "trainer.max_epochs=5", "logger=none")
    assert longer.summary["epochs"] == 5 and "\n4," not in longer.metrics
    assert "schedules over the whole run are ones of 5 epochs" in longer.log
    longest = train(place, "trainer.max_epochs=6")
    assert longest.summary["epochs"] == 6
    assert longest.config == first_run.config, "config.yaml is of the first start"
    resumes = OmegaConf.load(longest / "resumes.yaml")
    assert [place in entry.overrides for entry in resumes] == [True, True, True]
    assert "trainer.max_epochs=6" in resumes[2].overrides and resumes[2].environment.seed == 0
    assert OmegaConf.load(longest / "config_resumed.yaml").trainer.max_epochs == 6


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_starts_again(train, earlier_run, first_run):
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "summary.json"):
        (earlier_run / name).unlink()
    again = train(f"resume={earlier_run.path}", "trainer.max_epochs=4")
    assert "starts again" in again.log
    assert (again.metrics, again.summary["status"]) == (first_run.metrics, "finished")


@pytest.mark.slow
def test_what_is_refused_leaves_the_run_as_it_was(train, earlier_run, monkeypatch, capsys):
    def snapshot():
        files = {p.name: p.read_bytes() for p in earlier_run.path.iterdir() if p.is_file()}
        return {name: files[name] for name in files if name not in ("train.log", ".lock")}

    before = snapshot()
    monkeypatch.setattr("src.locks.LOCK_SECONDS", 0.1)
    last = earlier_run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:500])
    for argument, lock, message in (
        ("seed=0", taken(earlier_run.path), "one process at a time"),
        ("seed=4", nullcontext(), "got `seed=4`, which would make it another run"),
        ("trainer.max_epochs=5", nullcontext(), "last.ckpt could not be read"),
    ):
        with lock, pytest.raises(SystemExit):
            train(f"resume={earlier_run.path}", argument)
        assert message in capsys.readouterr().err
    assert snapshot() == before


def files_of(run):
    kept = (path for path in run.path.rglob("*") if path.is_file())
    return {p.name: p.read_bytes() for p in kept if p.name not in ("train.log", ".lock")}


def test_a_finished_run_stays_as_it_is(train, earlier_run):
    """Its time is that of the training, and no logger starts."""
    before = files_of(earlier_run)
    again = train(f"resume={earlier_run.path}", "trainer.max_epochs=4", "logger=wandb")
    assert files_of(earlier_run) == before and "Nothing to do: the run has finished" in again.log


@pytest.mark.slow
def test_a_run_that_was_stopped_early_is_finished(train):
    stop = ("callbacks=[minimal,early_stopping]", "callbacks.early_stopping.patience=1")
    run = train(*stop, "trainer.max_epochs=20", "model.optimizer.lr=0.5")
    before, epochs = files_of(run), run.summary["epochs"]
    assert epochs < 20
    for _ in range(2):
        train(f"resume={run.path}", *stop, "trainer.max_epochs=20")
        assert files_of(run) == before
    (run / "summary.json").unlink()  # killed in the test
    train(f"resume={run.path}", *stop, "trainer.max_epochs=20")
    assert run.summary["epochs"] == epochs and run.summary["status"] == "finished"
    assert run.summary | {"wall_time_s": 0} == json.loads(before["summary.json"]) | {
        "wall_time_s": 0
    }


@pytest.mark.slow
def test_a_run_that_ran_out_of_time_goes_on(train):
    limit = ("+trainer.max_time=00:00:00:02", "trainer.max_epochs=5000", "model.scheduler=null")
    run = train(*limit)
    first, rows = run.summary, run.metrics
    assert (first["status"], first["test"]) == ("interrupted", {})
    assert first["last"]["epochs_trained"] == first["epochs"] > 0
    assert f"resume={run.path}" in run.log
    train(f"resume={run.path}", *limit)
    assert run.summary["status"] == "interrupted"
    assert run.summary["epochs"] > first["epochs"]
    assert run.summary["wall_time_s"] > first["wall_time_s"]
    whole = [row for row in rows.splitlines() if row.startswith(f"{first['epochs'] - 1},")]
    assert set(whole) <= set(run.metrics.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("callbacks", ["[minimal,ema]", "minimal"])
@pytest.mark.parametrize("optimizer", ["torch.optim.Adam", "torch.optim.SGD"])
def test_two_starts_reach_what_one_does(train, callbacks, optimizer):
    """Also where the weights are averaged: training goes on from the weights themselves."""
    typed = (f"callbacks={callbacks}", "model.scheduler=null")
    typed += (f"model.optimizer._target_={optimizer}",)
    whole = train(*typed, "trainer.max_epochs=4")
    run = train(*typed, "trainer.max_epochs=2")
    train(f"resume={run.path}", *typed, "trainer.max_epochs=4")
    assert_same_result(run, whole)
    states = [torch.load(r / "checkpoints" / "last.ckpt", weights_only=True) for r in (run, whole)]
    for key in {"current_model_state", "averaging_state"} & set(states[0]):
        torch.testing.assert_close(*(state[key] for state in states), rtol=0, atol=0)
    assert ("current_model_state" in states[0]) == ("ema" in callbacks)
