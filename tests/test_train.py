import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]


def in_a_process(name: str, *arguments: str, spared: bool = False) -> subprocess.CompletedProcess:
    """Run an entry point as a user does."""
    fakes = ROOT / "tests" / "helpers"
    environment = os.environ | {"PYTHONPATH": str(fakes), "OMP_NUM_THREADS": "1"}
    environment.pop("PL_GLOBAL_SEED", None)
    if spared:
        environment["SPARED"] = "1"
    return subprocess.run(
        [sys.executable, f"src/{name}.py", f"--config-dir={fakes / 'configs'}", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


TINY = ("data=tiny", "model=tiny", "trainer=cpu", "logger=csv")


def test_a_run_directory_tells_what_was_run(train):
    run = train("seed=0", "tags=[pilot]")
    assert {path.name for path in run.path.iterdir()} == {
        *("config.yaml", "overrides.yaml", "environment.json", "train.log"),
        *("metrics.csv", "summary.json", "checkpoints"),
    }
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert "trainer.max_epochs=2" in yaml.safe_load((run / "overrides.yaml").read_text())
    assert run.config["trainer"]["max_epochs"] == 2
    assert run.config["paths"]["output_dir"] == str(run.path)
    assert run.environment["seed"] == 0
    assert run.environment["libraries"]["torch"] == torch.__version__.partition("+")[0]
    assert "Epoch 2/2: train/loss" in run.log
    assert f"Run directory: {run.path}" in run.log


def test_the_summary_holds_what_was_reached(train):
    run = train("trainer.max_epochs=3")
    summary = run.summary
    assert summary["status"] == "finished"
    assert summary["num_parameters"] == 4 * 8 + 8 + 2 * 8 + 8 * 3 + 3
    assert (summary["epochs"], summary["steps"]) == (3, 3 * 7)
    assert summary["last"]["epochs_trained"] == 3
    assert summary["best"]["metrics"]["val/acc"] >= summary["last"]["metrics"]["val/acc"]
    assert 0 < summary["test"]["test/acc"] <= 1
    assert (run / summary["best_checkpoint"]).is_file()
    assert summary["wall_time_s"] > 0


def test_the_best_network_is_the_tested_one(train, run_entry_point):
    run = train("trainer.max_epochs=4")
    assert run.summary["best"]["epochs_trained"] < 4, "else this test tests nothing"
    best = f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}"
    evaluated = run_entry_point("eval", "data=tiny", "model=tiny", best)
    assert evaluated.summary["metrics"] == run.summary["test"]


def test_equal_seeds_give_equal_numbers_and_others_do_not(train):
    first, again, other = train("seed=0"), train("seed=0"), train("seed=1")
    assert first.path != again.path
    assert first.metrics == again.metrics
    assert first.metrics != other.metrics


def test_without_a_seed_one_is_drawn_and_recorded(train):
    run = train("seed=null", "trainer.max_epochs=1")
    seed = run.config["seed"]
    assert isinstance(seed, int)
    assert run.environment["seed"] == run.summary["seed"] == run.config["data"]["seed"] == seed
    assert train(f"seed={seed}", "trainer.max_epochs=1").metrics == run.metrics


def test_a_checkpoint_needs_no_code_to_be_read(train):
    run = train("trainer.max_epochs=1", "seed=3")
    for name in ("best.ckpt", "last.ckpt"):
        checkpoint = torch.load(run / "checkpoints" / name, weights_only=True)
        assert checkpoint["config"]["seed"] == 3
        assert checkpoint["config"]["model"]["net"]["_target_"] == "run_fakes.TinyNet"


def test_training_starts_from_the_weights_of_a_checkpoint(train):
    trained = train("trainer.max_epochs=5")
    path = trained / "checkpoints" / "best.ckpt"
    tuned = train(f"ckpt_path={path}", "trainer.max_epochs=1", "model.optimizer.lr=1e-12")
    val = "val/acc"
    assert tuned.summary["best"]["metrics"][val] == trained.summary["best"]["metrics"][val]


def test_weights_of_another_architecture_are_refused(train, capsys):
    path = train("trainer.max_epochs=1") / "checkpoints" / "best.ckpt"
    with pytest.raises(SystemExit):
        train("model=wider", f"ckpt_path={path}")
    message = capsys.readouterr().err
    assert "must be of the same architecture" in message
    assert "net.hidden.weight (8, 4) instead of (12, 4)" in message


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "trainer.max_epochs=0",
            "`trainer.max_epochs` must be a whole number of at least 1; got 0",
        ),
        ("model.net.width=0", "model.net: `width` must be positive; got 0. Use 8."),
        (
            "model.alpha=-1",
            "model: `alpha`, the weight of the relaxation penalty, must be a number",
        ),
        ("data.source=unknown", "data: `source` must be bundled or other; got unknown"),
        ("ckpt_path=nowhere.ckpt", "`ckpt_path` must be an existing checkpoint file"),
        ("callbacks.checkpoint.mode=best", "`mode` must be max or min; got 'best'"),
        ("callbacks.checkpoint.monitor=val/f1", "must name a logged metric; got 'val/f1'"),
        ("optimized_metric=val/f1", "`optimized_metric` must be a logged metric; got 'val/f1'"),
    ],
)
def test_errors_are_one_message_and_the_traceback_is_in_the_log(
    train, tmp_path, capsys, argument, message
):
    with pytest.raises(SystemExit) as exit_:
        train(argument)
    assert exit_.value.code == 1
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    log = next(tmp_path.glob("*/*/*/train.log")).read_text()
    assert "Traceback" in log
    assert message.split("; got")[0].split(": ")[-1] in log


def test_the_full_error_is_shown_on_request(train, monkeypatch):
    from src.errors import UserError

    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(UserError, match="must be positive") as raised:
        train("model.net.width=0")
    assert "InstantiationException" in repr(raised.value.__cause__)


def test_a_failed_run_says_so(train, tmp_path):
    with pytest.raises(SystemExit):
        train("callbacks=ended", "callbacks.ended.epoch=1", "callbacks.ended.how=raise")
    run = next(tmp_path.glob("*/*/*/summary.json"))
    assert '"status": "failed"' in run.read_text()
    assert "RuntimeError: no more" in run.read_text()


def test_an_interrupted_run_says_so(train, tmp_path):
    with pytest.raises(SystemExit):
        train("callbacks=ended", "callbacks.ended.epoch=1", "callbacks.ended.how=interrupt")
    run = next(tmp_path.glob("*/*/*/summary.json"))
    assert '"status": "interrupted"' in run.read_text()


@pytest.mark.parametrize("hook", ["batch", "epoch_end", "epoch_start"])
@pytest.mark.parametrize("model", ["tiny", "plateau"])
def test_an_interrupted_run_resumes_to_the_same_result(train, tmp_path, monkeypatch, hook, model):
    long = ("callbacks=ended", f"callbacks.ended.hook={hook}", f"model={model}")
    long = (*long, "callbacks.ended.how=raise", "trainer.max_epochs=5")
    monkeypatch.setenv("SPARED", "1")
    whole = train(*long)
    monkeypatch.delenv("SPARED")
    with pytest.raises(SystemExit):
        train(*long)
    (cut,) = {path.parent for path in tmp_path.glob("train/runs/*/config.yaml")} - {whole.path}
    config = (cut / "config.yaml").read_text()

    monkeypatch.setenv("SPARED", "1")
    resumed = train(*long, f"resume={cut}")
    assert (resumed / "config.yaml").read_text() == config
    assert (cut / "metrics.csv").read_text() == whole.metrics
    ignored = {"wall_time_s"}
    kept = {key: value for key, value in whole.summary.items() if key not in ignored}
    assert {k: v for k, v in resumed.summary.items() if k not in ignored} == kept
    for name in ("best.ckpt", "last.ckpt"):
        assert_same_weights(cut / "checkpoints" / name, whole / f"checkpoints/{name}")


def assert_same_weights(first: Path, second: Path) -> None:
    states = [torch.load(path, weights_only=True)["state_dict"] for path in (first, second)]
    assert states[0].keys() == states[1].keys()
    for name, weights in states[0].items():
        assert torch.equal(weights, states[1][name]), name


@pytest.mark.parametrize("name", ["one_batch", "overfit", "profiler", "default"])
def test_debug_configs_run(train, name):
    run = train(f"debug={name}", *(["trainer.max_epochs=60"] if name == "overfit" else []))
    assert run.summary["status"] == "finished"
    assert "debug" in run.path.parts
    assert (run / "fit-profile.txt").is_file() == (name == "profiler")
    if name == "overfit":
        assert run.summary["last"]["metrics"]["train/acc"] > 0.6


def test_without_a_logger_the_summary_is_still_there(train):
    run = train("logger=none", "trainer.max_epochs=1")
    assert not (run / "metrics.csv").exists()
    assert run.summary["last"]["metrics"]["train/loss"] > 0


def test_a_fast_dev_run_leaves_no_checkpoint_and_no_metrics(train):
    run = train("trainer.fast_dev_run=true")
    assert run.summary["status"] == "finished"
    assert run.summary["best_checkpoint"] is None
    assert not (run / "checkpoints").exists()
    assert not (run / "metrics.csv").exists()


def test_tensorboard_writes_beside_the_csv(train):
    run = train("logger=tensorboard", "trainer.max_epochs=1")
    assert list((run / "tensorboard").glob("events.out.*"))
    assert "val/acc" in run.metrics


def test_extras_show_the_config(train, capsys):
    run = train("extras.print_config=true", "trainer.max_epochs=1")
    assert "run_fakes.TinyNet" in capsys.readouterr().out
    assert "run_fakes.TinyNet" in run.log


def test_a_multirun_gives_each_job_a_directory_and_survives_a_failing_one(train, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        train("--multirun", "model.net.width=8,0,12", "trainer.max_epochs=1")
    (sweep,) = tmp_path.glob("train/multiruns/*")
    jobs = [next(sweep.glob(f"width-{width}-*")) for width in (8, 0, 12)]
    statuses = [(job / "summary.json").read_text() for job in jobs]
    assert ['"status": "finished"' in status for status in statuses] == [True, False, True]
    assert "`width` must be positive; got 0" in ended.value.code
    assert "This job failed: model.net: `width`" in capsys.readouterr().out


def test_a_search_is_a_sweep_over_its_values(train, tmp_path):
    train("hparams_search=learning_rate", "trainer.max_epochs=1")
    runs = tmp_path.glob("train/multiruns/*/*/config.yaml")
    rates = [yaml.safe_load(run.read_text())["model"]["optimizer"]["lr"] for run in runs]
    assert sorted(rates) == [0.001, 0.003, 0.01, 0.03]


def test_a_moved_run_continues_where_it_now_lies(train, tmp_path, monkeypatch):
    run = train()
    moved = tmp_path / "train" / "runs" / "elsewhere"
    shutil.move(run.path, moved)
    resumed = train(f"resume={moved}", "trainer.max_epochs=3")
    assert resumed.summary["epochs"] == 3
    assert (moved / "config_resumed.yaml").is_file()
    assert not run.path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_run_resumes_to_the_same_result(tmp_path, workers):
    arguments = (*TINY, "callbacks=ended", "trainer.max_epochs=4", f"data.num_workers={workers}")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert in_a_process("train", *arguments, f"hydra.run.dir={whole}", spared=True).returncode == 0
    killed = in_a_process("train", *arguments, f"hydra.run.dir={cut}")
    assert killed.returncode == -9
    assert not (cut / "summary.json").exists()
    resumed = in_a_process("train", *arguments, f"resume={cut}", spared=True)
    assert resumed.returncode == 0, resumed.stderr
    assert (cut / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert_same_weights(cut / "checkpoints" / "last.ckpt", whole / "checkpoints" / "last.ckpt")


@pytest.mark.slow
def test_two_seeds_are_two_runs_of_one_sweep(tmp_path):
    done = in_a_process(
        *("train", "--multirun", *TINY, "callbacks=minimal", "seed=0,1"),
        *("trainer.max_epochs=1", f"paths.log_dir={tmp_path}"),
    )
    assert done.returncode == 0, done.stderr
    seeds = [yaml.safe_load(path.read_text())["seed"] for path in tmp_path.rglob("*/config.yaml")]
    assert sorted(seeds) == [0, 1]


@pytest.mark.slow
def test_the_help_names_groups_and_examples_without_heavy_imports():
    code = (
        "import sys; sys.argv = ['src/train.py', '--help']; import src.train as t\n"
        "try: t.main()\n"
        "finally: assert not {'torch', 'lightning', 'wandb', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for words in ("experiment=", "rgcnn_rotmnist", "resume=<run directory>", "max_epochs: 30"):
        assert words in done.stdout
