import re
import subprocess
import sys
from io import BytesIO
from itertools import chain, repeat
from unittest.mock import Mock

import pytest
import torch
import yaml

from tests.conftest import QUICK, QUIET, ROOT, RunDirectory, assert_same_result, in_a_process

BEST = "val/acc_reestimated"  # which chooses the best epoch


def test_a_run_directory_holds_what_was_run_and_reached(first_run):
    run, summary, environment = first_run, first_run.summary, first_run.environment
    files = {"config.yaml", "overrides.yaml", "environment.json", "train.log", "metrics.csv"}
    assert {path.name for path in run.path.iterdir()} == files | {"summary.json", "checkpoints"}
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert "trainer.max_epochs=4" in yaml.safe_load((run / "overrides.yaml").read_text())
    assert run.config["trainer"]["max_epochs"] == 4
    assert run.config["paths"]["output_dir"] == str(run.path)
    assert {"started", "command", "git", "python", "platform"} <= set(environment)
    version = torch.__version__.partition("+")[0]
    assert (environment["seed"], environment["libraries"]["torch"]) == (0, version)
    assert environment["devices"]["cpu"] and environment["devices"]["torch_threads"] >= 1
    assert "Epoch 2/4: train/loss" in run.log and f"Run directory: {run.path}" in run.log
    for name in ("best.ckpt", "last.ckpt"):  # which need no code to be read
        stored = torch.load(run / "checkpoints" / name, weights_only=True)["config"]
        assert (stored["seed"], stored["model"]["net"]["_target_"]) == (0, "run_fakes.TinyNet")
    expected = {"status": "finished", "epochs": 4, "steps": 4 * 7}
    expected["num_parameters"] = 4 * 8 + 8 + 2 * 8 + 8 * 3 + 3
    assert summary.items() >= expected.items()
    best, last = summary["best"], summary["last"]
    assert last["epochs_trained"] == 4
    assert best["epochs_trained"] < 4, "else test_eval.py could not tell which is tested"
    assert best["metrics"][BEST] >= last["metrics"][BEST]
    assert 0 < summary["test"]["test/acc"] <= 1 and summary["wall_time_s"] > 0
    assert (run / summary["best_checkpoint"]).is_file()


@pytest.mark.slow
def test_equal_seeds_give_equal_numbers_and_without_one_a_seed_is_drawn(train, first_run):
    again = train("seed=0", "trainer.max_epochs=4")
    assert again.path != first_run.path and again.metrics == first_run.metrics
    run = train("seed=null", "trainer.max_epochs=4")
    assert run.metrics != first_run.metrics
    seed = run.config["seed"]
    assert run.environment["seed"] == run.summary["seed"] == run.config["data"]["seed"] == seed
    assert train(f"seed={seed}", "trainer.max_epochs=4").metrics == run.metrics


@pytest.mark.slow
def test_training_starts_from_the_weights_of_a_checkpoint(train, first_run):
    start = f"ckpt_path={first_run / 'checkpoints' / 'best.ckpt'}"
    tuned = train(start, "trainer.max_epochs=1", "model.optimizer.lr=1e-12")
    first, second = (run.summary["best"]["metrics"][BEST] for run in (tuned, first_run))
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("callbacks", ["minimal", "[minimal,ema]"])
def test_scores_belong_to_the_epoch_and_to_the_weights_they_are_shown_with(
    train, run_entry_point, callbacks
):
    """Evaluating what is stored gives them; an epoch that was not validated has none."""
    second = ("trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2")
    steps = ("trainer.check_val_every_n_epoch=null", "+trainer.val_check_interval=5")
    for typed, validated in ((second, ["Epoch 2"]), (steps, ["Step 5", "Step 10"])):
        run = train(*typed, f"callbacks={callbacks}")
        assert re.findall(r"((?:Epoch|Step) \d+).*val/acc", run.log) == validated
        best, last = run.summary["best"], run.summary["last"]
        assert {name for name in last["metrics"] if name.startswith("val/")} == set()
        columns = next(line for line in run.log.splitlines() if "│ val/acc" in line).split("│")
        assert sorted(not cell.strip() for cell in columns[2:-1]) == [False, True]
        scored = {n.removesuffix("_reestimated"): v for n, v in best["metrics"].items()}
        for split, expected in (("val", scored), ("test", run.summary["test"])):
            path = f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}"
            found = run_entry_point("eval", path, f"split={split}", QUIET).summary["metrics"]
            for name, value in found.items():
                assert value == pytest.approx(expected[name], rel=1e-5), (typed, name)


RAISED = [(m, h, "raise") for m in ("tiny", "plateau") for h in ("epoch_end", "epoch_start")]
ENDS = [("tiny", "batch", "interrupt"), *(pytest.param(*r, marks=pytest.mark.slow) for r in RAISED)]


@pytest.mark.parametrize(("model", "hook", "how"), ENDS)
def test_a_run_that_ends_early_resumes_to_the_same_result(
    train, tmp_path, monkeypatch, first_run, model, hook, how
):
    long = (f"model={model}", "trainer.max_epochs=4", "callbacks=ended")
    long += (f"callbacks.ended.hook={hook}", f"callbacks.ended.how={how}")
    with pytest.raises(SystemExit) as ended:
        train(*long)
    (cut,) = (RunDirectory(path.parent) for path in tmp_path.glob("train/runs/*/config.yaml"))
    config, reached = cut.config, (cut.summary["status"], cut.summary.get("error"))
    expected = {"raise": ("failed", "RuntimeError: no more"), "interrupt": ("interrupted", None)}
    assert (*reached, ended.value.code) == (*expected[how], {"raise": 1, "interrupt": 130}[how])
    monkeypatch.setenv("SPARED", "1")
    whole = first_run if model == "tiny" else train(*long)
    assert_same_result(train(*long, f"resume={cut.path}"), whole)
    assert cut.config == config


def test_ctrl_c_while_a_checkpoint_is_written_interrupts_the_run(train, tmp_path, monkeypatch):
    write = Mock(side_effect=chain([0, 0, KeyboardInterrupt], repeat(0)))
    buffer = type("Cut", (BytesIO,), {"write": write})
    monkeypatch.setattr("src.callbacks.checkpoints.io", Mock(BytesIO=buffer))
    with pytest.raises(SystemExit):
        train()
    (cut,) = (RunDirectory(path.parent) for path in tmp_path.glob("train/runs/*/summary.json"))
    assert (cut.summary["status"], cut.summary.get("error")) == ("interrupted", None)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result(train, tmp_path, monkeypatch, first_run):
    cut = tmp_path / "train" / "runs" / "cut"
    long = ("callbacks=ended", "trainer.max_epochs=4", "data.num_workers=1")
    killed = in_a_process("train", *QUICK, *long, f"hydra.run.dir={cut}")
    assert killed.returncode == -9, killed.stderr
    assert not (cut / "summary.json").exists()
    monkeypatch.setenv("SPARED", "1")
    assert_same_result(train(*long, f"resume={cut}"), first_run)


@pytest.mark.slow
def test_runs_to_try_things_out(train, capsys):
    run = train("debug=overfit", "trainer.max_epochs=60")
    assert run.summary["last"]["metrics"]["train/acc"] > 0.6
    run = train("debug=profiler")
    assert "debug" in run.path.parts and (run / "fit-profile.txt").is_file()
    run = train("logger=none", "trainer.max_epochs=1", "extras.print_config=true")
    assert all("run_fakes.TinyNet" in shown for shown in (capsys.readouterr().out, run.log))
    assert run.summary["last"]["metrics"]["train/loss"] > 0
    assert not (run / "metrics.csv").exists()
    run = train("trainer.fast_dev_run=true")
    assert (run.summary["status"], run.summary["best_checkpoint"]) == ("finished", None)
    assert not (run / "checkpoints").exists() and not (run / "metrics.csv").exists()


WORDS = {"train": ["experiment: cnn_rotmnist, ", "resume=<run directory>", "max_epochs: 30"]}
WORDS |= {"eval": ["split: test"], "measure": ["overwrite: false", "measure: all, equivariance"]}
WORDS |= {"export": ["format: pt2"], "search": ["hparams_search: alpha, ", "search: default"]}
WORDS |= {"predict": ["split: test", "predictions.npz"]}
WORDS |= {"generate": ["data: rotmnist, smoke_level, ", "plot: false"]}


@pytest.mark.slow
def test_the_help_and_old_names_need_no_heavy_imports():
    code = f"""
import importlib, sys
for name in {tuple(WORDS)}:
    main = importlib.import_module(f"src.{{name}}").main
    for argument in ("--help", "rerun=true"):
        sys.argv = [f"src/{{name}}.py", argument]
        try:
            main()
        except SystemExit as end:
            print(end.code, "=====")
heavy = {{"torch", "lightning", "wandb", "numpy", "phi", "optuna"}} & set(sys.modules)
assert not heavy, heavy
"""
    options = {"cwd": ROOT, "capture_output": True, "text": True, "check": False}
    done = subprocess.run([sys.executable, "-c", code], **options)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.split("=====")
    for (name, words), help_text, refusal in zip(WORDS.items(), shown[::2], shown[1::2]):
        assert all(word in help_text for word in words), words
        examples = set(re.findall(r"^ +python (src/.*?\.py)", help_text, re.MULTILINE))
        assert examples == {f"src/{name}.py"}, "its own"
        assert ("\nexperiment: " in help_text) == (name in ("train", "search"))
        assert help_text.endswith("\n0 ")
        assert refusal == "\n`rerun` is of an earlier version. Use `sweep.rerun`. "
